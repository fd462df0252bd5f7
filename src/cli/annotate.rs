//! `faultlens annotate`: labels issues in the browser.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use faultlens::annotate::agreement::Agreement;
use faultlens::annotate::export::{counts, lines, settle};
use faultlens::annotate::reading::Reading;
use faultlens::annotate::server::Server;
use faultlens::annotate::store::Store;
use faultlens::annotate::{Queue, Session, Settings};
use faultlens::annotation::{Annotation, Coverage, read_annotations};
use faultlens::issue::Issue;
use faultlens::taxonomy::Taxonomy;
use faultlens::train::suspects::Suspect;

use super::{
    DEFAULT_MODEL, LabellingArguments, ReadArguments, TRAINING_LABELS, print, stop_flag, taxonomy,
    write,
};

/// Label issues in the browser
///
/// Serves a page on this machine alone and opens it. Every label is appended to the file of --labels and
/// on disk before the page moves on: `kill -9` loses none, and the same command goes on. The file may be
/// edited meanwhile. The labels of a model are not shown before the annotator has chosen, unless with
/// --suggest, and the file records of which issues they were. --export writes what is settled, one line
/// an issue, and how to train with it.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// Files with the issues, or patterns, or - for standard input
    #[arg(long, required_unless_present = "export", num_args = 1..)]
    issues: Vec<String>,
    /// The annotator's file (JSONL), made if there is none
    #[arg(long)]
    labels: PathBuf,
    /// Who annotates: goes into every line
    #[arg(long, required_unless_present = "export", value_name = "NAME")]
    annotator: Option<String>,
    /// Which issues come next
    #[arg(long, default_value = "random")]
    queue: QueueChoice,
    /// Other annotators' files. Their issues are labelled again, independently, and agreement is shown;
    /// with --queue disagreements, of two files what they label differently is decided
    #[arg(long, num_args = 1.., value_name = "FILE")]
    beside: Vec<PathBuf>,
    /// What `train --suspects` wrote, for --queue review
    #[arg(long, value_name = "FILE")]
    suspects: Option<PathBuf>,
    /// Show the model's labels before the annotator has chosen, and choose them at first: faster, for
    /// training data only
    #[arg(long)]
    suggest: bool,
    /// Folder or hub id (owner/name[@revision]) of a model, whose labels are shown once the annotator has
    /// chosen [default: the one that ships, where the queue or --suggest needs one; otherwise none]
    #[arg(long, short)]
    model: Option<String>,
    /// Heads and labels [default: the model's, or without one those that ship]
    #[arg(long)]
    taxonomy: Option<PathBuf>,
    /// Of the order drawn at random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Port of 127.0.0.1; 0: any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Print the page's address without opening it
    #[arg(long)]
    no_open: bool,
    /// Instead of serving, write the settled annotations: of --labels, and with two files --beside also
    /// those that both agree on
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    #[command(flatten)]
    labelling: LabellingArguments,
    #[command(flatten)]
    read: ReadArguments,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum QueueChoice {
    /// What the model and the labels so far leave most uncertain, in batches of different issues
    Uncertain,
    /// What differs most from all that is labelled
    Diverse,
    /// Drawn at random, every repository in its share: for gold
    Random,
    /// What two annotators (--beside) label differently, side by side
    Disagreements,
    /// Annotations that are likely wrong (--suspects), the surest first
    Review,
}

impl From<QueueChoice> for Queue {
    fn from(choice: QueueChoice) -> Self {
        match choice {
            QueueChoice::Uncertain => Self::Uncertain,
            QueueChoice::Diverse => Self::Diverse,
            QueueChoice::Random => Self::Random,
            QueueChoice::Disagreements => Self::Disagreements,
            QueueChoice::Review => Self::Review,
        }
    }
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        self.check()?;
        match &self.export {
            Some(output) => self.export(output),
            None => self.serve(),
        }
    }

    fn check(&self) -> Result<()> {
        if self.queue == QueueChoice::Disagreements && self.beside.len() != 2 {
            bail!(
                "--queue disagreements decides between two annotators: give both files with --beside"
            );
        }
        if (self.queue == QueueChoice::Review) != self.suspects.is_some() {
            bail!(
                "--queue review and --suspects go together: the file is what `train --suspects` writes"
            );
        }
        let own = self.labels.canonicalize().ok();
        if let Some(file) = self
            .beside
            .iter()
            .find(|f| own.is_some() && f.canonicalize().ok() == own)
        {
            bail!(
                "{} is --labels too: every annotator has a file of their own",
                file.display()
            );
        }
        Ok(())
    }

    fn serve(&self) -> Result<ExitCode> {
        let model = self.model_folder()?;
        let taxonomy = taxonomy(self.taxonomy.as_deref(), model.as_deref())?;
        let store = Store::open(&self.labels, &taxonomy)?;
        if store.repaired() > 0 {
            eprintln!(
                "{}: removed {} bytes of a last line that was never finished",
                self.labels.display(),
                store.repaired()
            );
        }
        let corpus = self.read.open(&self.issues)?;
        let issues: Vec<Issue> = corpus.issues().collect::<Result<_, _>>()?;
        if issues.is_empty() {
            bail!("there is no issue in {}", self.issues.join(", "));
        }
        let classifier = match &model {
            Some(folder) => Some(self.labelling.load(folder)?),
            None => None,
        };
        if let (Some(classifier), Some(folder)) = (&classifier, &model)
            && *classifier.taxonomy() != taxonomy
        {
            bail!(
                "{}: its taxonomy is not that of --taxonomy; leave out one of the two",
                folder.display()
            );
        }
        let settings = Settings {
            annotator: self.annotator.clone().context("give --annotator a name")?,
            queue: self.queue.into(),
            suggest: self.suggest,
            seed: self.seed,
        };
        let session = Session::new(
            settings,
            issues,
            taxonomy.clone(),
            store,
            self.readings(&taxonomy)?,
            self.suspects()?,
            classifier,
        );
        let session = Arc::new(session);
        if session.status()?.total == 0 {
            bail!(
                "there is nothing to label: none of the issues is one that the other files call for"
            );
        }
        self.run_server(&session)?;
        let status = session.status()?;
        eprintln!(
            "\n{} labels given, {} in {}, {} of {} issues done",
            status.given,
            status.labels,
            self.labels.display(),
            status.done,
            status.total
        );
        Ok(ExitCode::SUCCESS)
    }

    /// Serves until Ctrl-C.
    fn run_server(&self, session: &Arc<Session>) -> Result<()> {
        let stop = stop_flag()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let learning = {
            let (session, stop) = (session.clone(), stop.clone());
            std::thread::spawn(move || session.learn(&stop))
        };
        let served = runtime.block_on(async {
            let server = Server::bind(self.port)
                .await
                .with_context(|| format!("cannot listen on port {}", self.port))?;
            let url = server.url();
            eprintln!("{url}\nannotate there; Ctrl-C ends it, nothing is lost");
            if !self.no_open && webbrowser::open(&url).is_err() {
                eprintln!("no browser could be opened: open the address yourself");
            }
            Ok::<_, anyhow::Error>(server.serve(session.clone(), raised(stop.clone())).await?)
        });
        stop.store(true, Ordering::Relaxed);
        let learned = learning.join();
        served?;
        learned.map_err(|_| anyhow!("the thread that ranks issues failed"))??;
        Ok(())
    }

    fn export(&self, output: &Path) -> Result<ExitCode> {
        let taxonomy = taxonomy(self.taxonomy.as_deref(), None)?;
        let own = match self.labels.exists() || self.beside.is_empty() {
            true => read_annotations(&self.labels, &taxonomy, Coverage::AllHeads)?,
            // Two annotators who never differ leave nothing to decide.
            false => Vec::new(),
        };
        let readings = self.readings(&taxonomy)?;
        let between = match readings.as_slice() {
            [first, second] => Some([first, second]),
            _ => None,
        };
        let settled = settle(&own, between);
        write(output, &lines(&settled.annotations, &taxonomy))?;
        let mut text = format!(
            "{} annotations in {}\n",
            settled.annotations.len(),
            output.display()
        );
        if settled.undecided > 0 {
            let _ = writeln!(
                text,
                "{} issues that the two label differently are not decided, and left out: annotate --queue \
                 disagreements",
                settled.undecided
            );
        }
        let heads = counts(&settled.annotations, &taxonomy);
        for (head, counts) in taxonomy.heads.iter().zip(heads) {
            let counts = counts
                .iter()
                .map(|(label, count)| format!("{label} {count}"));
            let counts: Vec<String> = counts.collect();
            let _ = writeln!(text, "  {}: {}", head.name, counts.join(", "));
        }
        for agreement in agreements(&taxonomy, &own, &readings) {
            text += &describe(&agreement);
        }
        let issues = match self.issues.as_slice() {
            [] => "ISSUES".to_owned(),
            issues => issues.join(" "),
        };
        let _ = write!(
            text,
            "\nTo train with them:\n  faultlens train --from {DEFAULT_MODEL} --issues {issues} --labels \
             {TRAINING_LABELS} {} -o my-model",
            output.display()
        );
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn model_folder(&self) -> Result<Option<PathBuf>> {
        let ranks = matches!(self.queue, QueueChoice::Uncertain | QueueChoice::Diverse);
        let wanted = self.model.is_some() || ranks || self.suggest;
        wanted
            .then(|| self.labelling.model.model_folder(self.model.as_deref()))
            .transpose()
    }

    fn readings(&self, taxonomy: &Taxonomy) -> Result<Vec<Reading>> {
        let readings = self.beside.iter().map(|path| Reading::open(path, taxonomy));
        Ok(readings.collect::<Result<_, _>>()?)
    }

    fn suspects(&self) -> Result<Vec<Suspect>> {
        let Some(path) = &self.suspects else {
            return Ok(Vec::new());
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lines = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty());
        let suspects = lines.map(|(number, line)| {
            serde_json::from_str(line).with_context(|| {
                let path = path.display();
                format!("{path}:{number} is no line of what faultlens train --suspects writes")
            })
        });
        suspects.collect()
    }
}

/// Of every two annotators: with two others, the own labels decide between them and are no third.
fn agreements(taxonomy: &Taxonomy, own: &[Annotation], readings: &[Reading]) -> Vec<Agreement> {
    match readings {
        [first, second] => {
            let pairs = first.annotations.iter();
            let pairs = pairs.filter_map(|a| Some((a, second.get(&a.id)?)));
            vec![Agreement::of(taxonomy, [&first.name, &second.name], pairs)]
        }
        readings => {
            let of = |reading: &Reading| {
                let pairs = own.iter().filter_map(|a| Some((a, reading.get(&a.id)?)));
                let name = own.iter().find_map(|a| a.annotator.as_deref());
                Agreement::of(taxonomy, [name.unwrap_or("labels"), &reading.name], pairs)
            };
            readings.iter().map(of).collect()
        }
    }
}

/// Such as `ann and ben on 40 issues: kind 0.975 (kappa 0.912), …`.
fn describe(agreement: &Agreement) -> String {
    let figure = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
    let heads = agreement.heads.iter().map(|head| {
        let (accuracy, kappa) = (figure(head.accuracy), figure(head.kappa));
        format!("{} {accuracy} (kappa {kappa})", head.head)
    });
    let heads: Vec<String> = heads.collect();
    format!(
        "  {} and {} on {} issues agree: {}\n",
        agreement.first,
        agreement.second,
        agreement.issues,
        heads.join(", ")
    )
}

/// Is done once the flag is raised.
async fn raised(flag: Arc<AtomicBool>) {
    while !flag.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
