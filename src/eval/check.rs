//! Whether a change has lowered a figure of an earlier report.

use super::figure;
use super::report::{Agreement, Estimate, Evaluation, Report};

/// Floating point may differ by this between machines.
const SLACK: f64 = 1e-9;

/// Why two reports cannot be checked against each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    #[error(
        "the stored figures are of another gold file ({stored}, sha256 {stored_sha256:.12}; now {now}, \
         {now_sha256:.12}); check against results on this one"
    )]
    OtherGold {
        stored: String,
        stored_sha256: String,
        now: String,
        now_sha256: String,
    },
    #[error("the stored figures are of {stored} and not of {now}; evaluate {stored} too")]
    MissingModel { stored: String, now: String },
}

/// A figure that is worse than the stored interval allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// Such as `default: category: kappa`.
    pub figure: String,
    pub stored: Estimate,
    /// `None`: it is undefined now.
    pub now: Option<f64>,
}

impl std::fmt::Display for Regression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: Option<f64>| value.map_or("undefined".into(), figure);
        write!(
            f,
            "{}: {}, stored {}",
            self.figure,
            shown(self.now),
            shown(self.stored.value)
        )?;
        match (self.stored.low, self.stored.high) {
            (Some(low), Some(high)) => write!(f, " [{}, {}]", figure(low), figure(high)),
            _ => Ok(()),
        }
    }
}

/// What the better values of a figure are.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    High,
    Low,
}

/// The figures of `now` that are worse than those of `stored` by more than its intervals allow: below
/// the lower bound, for errors (calibration error, Brier score, area under the risk-coverage curve)
/// above the upper. Where a figure has no interval, its value is the bound. Models go by name.
///
/// # Errors
/// The gold files differ, or a stored model was not evaluated now.
pub fn check(stored: &Report, now: &Report) -> Result<Vec<Regression>, CheckError> {
    if stored.gold.sha256 != now.gold.sha256 {
        return Err(CheckError::OtherGold {
            stored: stored.gold.file.clone(),
            stored_sha256: stored.gold.sha256.clone(),
            now: now.gold.file.clone(),
            now_sha256: now.gold.sha256.clone(),
        });
    }
    let mut regressions = Vec::new();
    for model in &stored.models {
        let Some(current) = now.models.iter().find(|current| current.name == model.name) else {
            let names: Vec<&str> = now.models.iter().map(|model| model.name.as_str()).collect();
            return Err(CheckError::MissingModel {
                stored: model.name.clone(),
                now: names.join(", "),
            });
        };
        let current = figures(current);
        for (name, better, estimate) in figures(model) {
            let found = current.iter().find(|(other, _, _)| *other == name);
            let value = found.and_then(|(_, _, estimate)| estimate.value);
            if is_worse(better, &estimate, value) {
                regressions.push(Regression {
                    figure: format!("{}: {name}", model.name),
                    stored: estimate,
                    now: value,
                });
            }
        }
    }
    Ok(regressions)
}

fn is_worse(better: Better, stored: &Estimate, now: Option<f64>) -> bool {
    let bound = match better {
        Better::High => stored.low,
        Better::Low => stored.high,
    };
    match (bound.or(stored.value), now) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(bound), Some(now)) if better == Better::High => now < bound - SLACK,
        (Some(bound), Some(now)) => now > bound + SLACK,
    }
}

/// Every figure of a model that is better high or better low, by name.
fn figures(model: &Evaluation) -> Vec<(String, Better, Estimate)> {
    use Better::{High, Low};
    let mut figures = vec![("joint accuracy".to_owned(), High, model.joint_accuracy)];
    for head in &model.heads {
        let name = &head.head;
        agreement(name, &head.all, &mut figures);
        if let Some(applicable) = &head.applicable {
            agreement(
                &format!("{name} where it applies"),
                applicable,
                &mut figures,
            );
        }
        if let Some(calibration) = &head.calibration {
            figures.push((format!("{name}: calibration error"), Low, calibration.ece));
            figures.push((format!("{name}: Brier score"), Low, calibration.brier));
        }
        if let Some(selective) = &head.selective {
            figures.push((
                format!("{name}: area under risk-coverage"),
                Low,
                selective.aurc,
            ));
            figures.extend(selective.coverage_at.iter().map(|at| {
                let percent = at.precision * 100.0;
                (
                    format!("{name}: coverage at {percent:.0} % precision"),
                    High,
                    at.coverage,
                )
            }));
        }
    }
    for group in &model.groups {
        for head in &group.heads {
            let named = |measure: &str| format!("{}: {}: {measure}", group.name, head.head);
            figures.push((named("accuracy"), High, head.accuracy));
            figures.push((named("kappa"), High, head.kappa));
            figures.push((named("macro-F1"), High, head.macro_f1));
        }
    }
    figures
}

fn agreement(head: &str, agreement: &Agreement, figures: &mut Vec<(String, Better, Estimate)>) {
    let mut add = |measure: &str, estimate| {
        figures.push((format!("{head}: {measure}"), Better::High, estimate));
    };
    add("accuracy", agreement.accuracy);
    add("balanced accuracy", agreement.balanced_accuracy);
    add("macro-F1", agreement.macro_f1);
    add("micro-F1", agreement.micro_f1);
    add("weighted F1", agreement.weighted_f1);
    add("kappa", agreement.kappa);
    add("Matthews correlation", agreement.matthews);
    for label in &agreement.per_label {
        add(&format!("{} precision", label.label), label.precision);
        add(&format!("{} recall", label.label), label.recall);
        add(&format!("{} F1", label.label), label.f1);
    }
}
