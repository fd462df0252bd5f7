//! How often a study's intervals hold the truth, as Markdown: makes eval/study-coverage.md.
//!
//!     cargo run --release --example study_coverage > eval/study-coverage.md

#[path = "../tests/study/simulation.rs"]
mod simulation;

const REPETITIONS: u64 = 2000;
const ISSUES: usize = 12_000;

fn main() {
    println!(
        "# Coverage of a study's intervals\n\n\
         Made by `cargo run --release --example study_coverage > eval/study-coverage.md`.\n\n\
         {REPETITIONS} corpora of {ISSUES} issues in three repositories, whose labels' shares differ; a \
         classifier of known confusion, less sure than it should be; gold drawn at random in proportion to the \
         repositories. Each column is the share of 95 % intervals, in %, that hold the true share: of the \
         estimates that `faultlens study` gives (stratified PPI++, Wilson's interval for the effective number \
         of issues), of PPI++ with the normal interval, of gold alone, and of classify-and-count. The width is \
         that of the first against gold alone. Of {REPETITIONS} intervals that hold in 95 %, 94.0 to 96.0 \
         are to be expected."
    );
    for gold in [100, 200, 400, 800] {
        let (coverages, kappa) = simulation::simulate(ISSUES, gold, REPETITIONS);
        println!(
            "\n## {gold} gold issues (kappa of the classifier {kappa:.2})\n\n\
             | true share | study | normal PPI++ | gold alone | classify-and-count | width |\n\
             |---:|---:|---:|---:|---:|---:|"
        );
        for label in coverages {
            let percent = |x: f64| format!("{:.1}", 100.0 * x);
            println!(
                "| {:.3} | {} | {} | {} | {} | {:.2} |",
                label.share,
                percent(label.estimate),
                percent(label.normal),
                percent(label.gold_alone),
                percent(label.counted),
                label.width
            );
        }
    }
}
