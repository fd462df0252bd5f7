//! The card of a model: what it was made from, and what it is worth.

use faultlens::model::bundle::Manifest;
use faultlens::taxonomy::Taxonomy;

/// The model card of a training, in Markdown.
pub fn card(name: &str, manifest: &Manifest, taxonomy: &Taxonomy) -> String {
    let provenance = &manifest.provenance;
    let settings = serde_json::to_string_pretty(&provenance["settings"]).unwrap_or_default();
    let mut card = format!(
        "# {name}\n\n\
         A text classifier of `faultlens` (id `{}`), fine-tuned from `{}` on {} annotated issues.\n\n\
         `faultlens classify --model <this folder> issues.json` labels issues with it; \
         `transformers.AutoModel.from_pretrained` loads its encoder.\n\n",
        manifest.id,
        provenance["base"]["source"].as_str().unwrap_or_default(),
        provenance["examples"],
    );
    let validation = &provenance["validation"];
    if let Some(heads) = validation["heads"].as_object().filter(|h| !h.is_empty()) {
        card += &measured(validation, &provenance["settings"]["validation"]);
        card += "| head | accuracy | kappa | macro-F1 |\n|---|---|---|---|\n";
        for head in &taxonomy.heads {
            let metrics = &heads[&head.name];
            let figure = |key: &str| {
                metrics[key]
                    .as_f64()
                    .map_or("–".into(), |value| format!("{value:.3}"))
            };
            let (accuracy, kappa, f1) = (figure("accuracy"), figure("kappa"), figure("macro_f1"));
            card += &format!("| {} | {accuracy} | {kappa} | {f1} |\n", head.name);
        }
        card += &abstention(manifest, taxonomy);
    }
    card += &format!("\n## Settings\n\n```json\n{settings}\n```\n");
    let earlier = &provenance["earlier"];
    if earlier.is_object() {
        let base = earlier["base"]["source"].as_str().unwrap_or_default();
        let settings = serde_json::to_string_pretty(&earlier["settings"]).unwrap_or_default();
        card += &format!(
            "\nThe model that this training went on from was fine-tuned from `{base}` on {} annotated issues:\n\n\
             ```json\n{settings}\n```\n",
            earlier["examples"],
        );
    }
    card
}

/// How the figures came to be.
fn measured(validation: &serde_json::Value, fraction: &serde_json::Value) -> String {
    let common = "`none` included where a head does not apply";
    match validation["folds"].as_u64() {
        Some(folds) => format!(
            "## Cross-validation\n\nAgreement with the annotations, {common}, of models trained in the \
             same way on {} of {folds} parts of the annotations, each on the part that it has not seen. \
             The probabilities are calibrated on these predictions; this model is trained on all \
             parts.\n\n",
            folds - 1
        ),
        None => {
            let chosen = match validation["epoch"].as_u64() {
                Some(epoch) if epoch > 0 => {
                    format!(
                        ", after epoch {epoch}. The epoch was chosen and the probabilities were"
                    )
                }
                _ => ". The probabilities were".into(),
            };
            format!(
                "## Validation\n\nAgreement with the annotations held out by a hash of their identity \
                 ({} % of them), {common}{chosen} calibrated on them, so they flatter the model a little.\n\n",
                fraction.as_f64().unwrap_or_default() * 100.0,
            )
        }
    }
}

/// From which probability on labels are as often right as wanted.
fn abstention(manifest: &Manifest, taxonomy: &Taxonomy) -> String {
    let mut table = "\n## Abstention\n\nOn the same issues, labels at least as probable as the threshold \
                     were right as often as wanted (`classify --target-precision`); coverage is the \
                     share of issues that keep their label.\n\n\
                     | head | precision | threshold | coverage |\n|---|---|---|---|\n"
        .to_owned();
    for head in &taxonomy.heads {
        for threshold in manifest.thresholds.get(&head.name).into_iter().flatten() {
            let probability = threshold
                .probability
                .map_or("none gives that".into(), |p| format!("{p:.3}"));
            table += &format!(
                "| {} | {} | {probability} | {:.3} |\n",
                head.name, threshold.precision, threshold.coverage
            );
        }
    }
    table
}
