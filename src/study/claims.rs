//! Statements as data: a study file's claims, and their answers.
//!
//! ```toml
//! [[claims]]
//! id = "memory-first"
//! text = "Memory management is the first cause of failures."
//! first = "category.memory"
//!
//! [[claims]]
//! id = "gpu-llama-vllm"
//! text = "GPU failures are a larger share in llama.cpp than in vLLM."
//! greater = { label = "category.gpu", in = "ggml-org/llama.cpp", than = "vllm-project/vllm" }
//! ```
//!
//! A claim says one of `first`, `greater`, `at_least`, `at_most`, `rising`, `falling` and `undecidable`
//! (with the reason); `first` goes with `except`, labels that do not compete. Labels are `head.label`, of several labels of a head `head.one|another`; shares are
//! among the issues to which the head applies, or with `within` among those with that label; `in` names
//! one repository.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::estimate::{Coefficient, Fit, Tuning, Z, difference};
use super::findings::{Answer, Interval, Verdict};
use super::prevalence::trend;
use super::question::{Condition, Question};
use super::ranking::Ranking;
use super::sample::{Part, Sample};
use crate::taxonomy::Taxonomy;

/// Why a study file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("{}: {source}; give the path of a study file such as eval/study.toml", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {message}; see eval/study.toml for the form", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{}: claim {id}: {problem}", path.display())]
    Claim {
        path: PathBuf,
        id: String,
        problem: String,
    },
}

/// A statement that labels may decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub id: String,
    pub text: String,
    pub form: Form,
    /// One repository; `None`: the whole corpus.
    pub repo: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// The label has the largest share of its head's, those left out excepted.
    First {
        head: usize,
        label: usize,
        except: Vec<usize>,
    },
    /// The share is larger in the claim's repository than in another.
    Greater {
        question: Question,
        than: String,
    },
    /// The first label's share is larger than the second's, of the same head.
    GreaterThanLabel {
        head: usize,
        label: usize,
        than: usize,
    },
    AtLeast {
        question: Question,
        value: f64,
    },
    AtMost {
        question: Question,
        value: f64,
    },
    Rising(Question),
    Falling(Question),
    Undecidable(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    #[serde(default)]
    claims: Vec<ClaimFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimFile {
    id: String,
    text: String,
    first: Option<String>,
    /// With `first`: labels that do not compete.
    except: Option<String>,
    greater: Option<Greater>,
    at_least: Option<Threshold>,
    at_most: Option<Threshold>,
    rising: Option<String>,
    falling: Option<String>,
    undecidable: Option<String>,
    within: Option<String>,
    r#in: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greater {
    label: String,
    r#in: Option<String>,
    /// A repository.
    than: Option<String>,
    than_label: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Threshold {
    label: String,
    share: f64,
}

/// Reads the claims in the study file at `path`.
///
/// # Errors
/// The file cannot be read, is no study file, or a claim is not one of the forms or names a label that the
/// taxonomy does not have.
pub fn read_claims(path: &Path, taxonomy: &Taxonomy) -> Result<Vec<Claim>, ClaimError> {
    let text = std::fs::read_to_string(path).map_err(|source| ClaimError::Read {
        path: path.into(),
        source,
    })?;
    let file: StudyFile = toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        ClaimError::Syntax {
            path: path.into(),
            message: format!("line {line}: {}", error.message().replace('\n', ", ")),
        }
    })?;
    let mut claims: Vec<Claim> = Vec::new();
    for claim in file.claims {
        let id = claim.id.clone();
        let failed = |problem: String| ClaimError::Claim {
            path: path.into(),
            id: id.clone(),
            problem,
        };
        if claims.iter().any(|known| known.id == id) {
            return Err(failed("its id is another claim's too; rename one".into()));
        }
        claims.push(claim.check(taxonomy).map_err(failed)?);
    }
    Ok(claims)
}

impl ClaimFile {
    fn check(self, taxonomy: &Taxonomy) -> Result<Claim, String> {
        let within = self
            .within
            .as_deref()
            .map(|text| condition(text, taxonomy))
            .transpose()?;
        let question = |text: &str| -> Result<Question, String> {
            let label = condition(text, taxonomy)?;
            let of_head = Question::of_label(taxonomy, label.head, label.labels[0]);
            Ok(Question {
                within: within.clone().map_or(of_head.within, |within| vec![within]),
                label,
            })
        };
        let single = |text: &str| -> Result<(usize, usize), String> {
            let found = condition(text, taxonomy)?;
            match (&within, found.labels[..].first(), found.labels.len()) {
                (Some(_), ..) => {
                    Err("`within` goes with at_least, at_most, rising and falling".into())
                }
                (_, Some(&label), 1) => Ok((found.head, label)),
                _ => Err(format!("{text:?} names several labels; name one")),
            }
        };
        let mut repo = self.r#in;
        let mut forms = Vec::new();
        if let Some(text) = &self.first {
            let (head, label) = single(text)?;
            let except = self.except.as_deref().map(|text| condition(text, taxonomy));
            let except = except.transpose()?;
            if except
                .as_ref()
                .is_some_and(|e| e.head != head || e.labels.contains(&label))
            {
                return Err("except names other labels of the same head as first".into());
            }
            let except = except.map_or_else(Vec::new, |except| except.labels);
            forms.push(Form::First {
                head,
                label,
                except,
            });
        }
        if let Some(greater) = &self.greater {
            repo = repo.or(greater.r#in.clone());
            forms.push(match (&greater.than, &greater.than_label) {
                (Some(than), None) if repo.is_some() => Form::Greater {
                    question: question(&greater.label)?,
                    than: than.clone(),
                },
                (None, Some(than)) => {
                    let ((head, label), (other, than)) = (single(&greater.label)?, single(than)?);
                    if head != other {
                        return Err("greater compares labels of one head".into());
                    }
                    Form::GreaterThanLabel { head, label, than }
                }
                _ => {
                    return Err(
                        "greater needs `label` with `in` and `than`, two repositories, or with \
                     `than_label`"
                            .into(),
                    );
                }
            });
        }
        for (threshold, is_least) in [(&self.at_least, true), (&self.at_most, false)] {
            let Some(threshold) = threshold else { continue };
            let (question, value) = (question(&threshold.label)?, threshold.share);
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("share is {value}; make it a number from 0 to 1"));
            }
            forms.push(match is_least {
                true => Form::AtLeast { question, value },
                false => Form::AtMost { question, value },
            });
        }
        forms.extend(
            self.rising
                .as_deref()
                .map(&question)
                .transpose()?
                .map(Form::Rising),
        );
        forms.extend(
            self.falling
                .as_deref()
                .map(&question)
                .transpose()?
                .map(Form::Falling),
        );
        forms.extend(self.undecidable.map(Form::Undecidable));
        match (forms.pop(), forms.is_empty()) {
            (Some(form), true) => Ok(Claim {
                id: self.id,
                text: self.text,
                form,
                repo,
            }),
            _ => Err("it must say exactly one of first, greater, at_least, at_most, rising, falling and \
                 undecidable".into()),
        }
    }
}

/// `head.label` or `head.one|another`.
fn condition(text: &str, taxonomy: &Taxonomy) -> Result<Condition, String> {
    let (head, labels) = text
        .split_once('.')
        .ok_or_else(|| format!("{text:?} is not head.label"))?;
    let place = taxonomy.head_index(head).ok_or_else(|| {
        let heads: Vec<&str> = taxonomy
            .heads
            .iter()
            .map(|head| head.name.as_str())
            .collect();
        format!("{head:?} is no head: name one of {}", heads.join(", "))
    })?;
    let of = &taxonomy.heads[place];
    let labels = labels.split('|').map(|label| {
        of.label_index(label.trim()).ok_or_else(|| {
            let names: Vec<&str> = of.labels.iter().map(|label| label.name.as_str()).collect();
            format!(
                "{label:?} is no label of {head}: name one of {}",
                names.join(", ")
            )
        })
    });
    Ok(Condition {
        head: place,
        labels: labels.collect::<Result<_, _>>()?,
    })
}

/// Answers a claim from the corpus.
pub fn answer(claim: &Claim, sample: &Sample<'_>, seed: u64) -> Answer {
    let taxonomy = sample.taxonomy;
    let part = Part {
        repo: claim.repo.as_deref(),
        quarter: None,
    };
    let mut answer = Answer {
        id: claim.id.clone(),
        text: claim.text.clone(),
        checked: checked(claim, taxonomy),
        verdict: Verdict::Undecided,
        quantity: None,
        estimate: None,
        gold_issues: 0,
        issues: sample.part(part).count(),
        why: String::new(),
    };
    if answer.issues == 0
        && !matches!(claim.form, Form::Undecidable(_))
        && let Some(repo) = &claim.repo
    {
        answer.why = format!("the corpus has no issue of {repo}");
        return answer;
    }
    let no_gold = "there is too little gold here to say, and counts of predicted labels have no valid \
                   interval";
    let share =
        |question: &Question, part| sample.answer(question, part, Coefficient::Share, Tuning::Best);
    match &claim.form {
        Form::Undecidable(why) => {
            answer.verdict = Verdict::Undecidable;
            answer.why.clone_from(why);
        }
        Form::First {
            head,
            label,
            except,
        } => {
            let Some(fits) = fits(sample, *head, part) else {
                answer.why = no_gold.into();
                return answer;
            };
            let names = |place: usize| taxonomy.heads[*head].labels[place].name.as_str();
            let competes = |place: &usize| !except.contains(place);
            let places: Vec<usize> = (0..fits.len()).filter(competes).collect();
            let fits: Vec<Fit> = places.iter().map(|&place| fits[place].clone()).collect();
            let place = places.iter().position(|place| place == label);
            let place = place.expect("a label is not excepted from its own claim");
            let rank = Ranking::new(&fits, seed).rank(place);
            answer.measured(format!("share of {}", names(*label)), &fits[place]);
            answer.verdict = match (rank.best, rank.worst) {
                (1, 1) => Verdict::Supported,
                (best, _) if best > 1 => Verdict::Refuted,
                _ => Verdict::Undecided,
            };
            let largest = (0..fits.len())
                .max_by(|&a, &b| fits[a].value.total_cmp(&fits[b].value))
                .expect("a head has labels");
            answer.why = format!(
                "it ranks {} of {} (95 % confidence), first with probability {:.2}; the largest estimate \
                 is {} with {:.3}",
                match rank.best == rank.worst {
                    true => rank.best.to_string(),
                    false => format!("{} to {}", rank.best, rank.worst),
                },
                fits.len(),
                rank.first,
                names(places[largest]),
                fits[largest].value
            );
        }
        Form::GreaterThanLabel { head, label, than } => {
            let Some(fits) = fits(sample, *head, part) else {
                answer.why = no_gold.into();
                return answer;
            };
            let (value, error) = Ranking::new(&fits, seed).difference(*label, *than);
            answer.gold_issues = fits[*label].gold_domain as usize;
            answer.compared(value, value - Z * error, value + Z * error);
        }
        Form::Greater { question, than } => {
            let other = Part {
                repo: Some(than),
                quarter: None,
            };
            answer.issues += sample.part(other).count();
            let (Some(a), Some(b)) = (share(question, part), share(question, other)) else {
                answer.why = no_gold.into();
                return answer;
            };
            answer.gold_issues = (a.gold_domain + b.gold_domain) as usize;
            let of = |fit: &Fit| {
                let Interval { value, low, high } = fit.share();
                (value, low, high)
            };
            let (value, low, high, _) = difference(of(&a), of(&b));
            answer.compared(value, low, high);
            answer.why += &format!("; {:.3} against {:.3}", a.value, b.value);
        }
        Form::AtLeast { question, value } | Form::AtMost { question, value } => {
            let Some(fit) = share(question, part) else {
                answer.why = no_gold.into();
                return answer;
            };
            answer.measured("share".into(), &fit);
            let Interval { low, high, .. } = fit.share();
            let is_least = matches!(claim.form, Form::AtLeast { .. });
            (answer.verdict, answer.why) = match (low >= *value, high <= *value) {
                (true, false) if is_least => (Verdict::Supported, "the interval is above".into()),
                (true, false) => (Verdict::Refuted, "the interval is above".into()),
                (false, true) if is_least => (Verdict::Refuted, "the interval is below".into()),
                (false, true) => (Verdict::Supported, "the interval is below".into()),
                _ => (Verdict::Undecided, format!("the interval includes {value}")),
            };
        }
        Form::Rising(question) | Form::Falling(question) => {
            let Some(trend) = trend(sample, question, part) else {
                answer.why = "there is too little dated gold with this label to say".into();
                return answer;
            };
            let sign = if matches!(claim.form, Form::Rising(_)) {
                1.0
            } else {
                -1.0
            };
            let Interval { low, high, .. } = trend.per_year;
            answer.quantity = Some("change of the share in a year".into());
            answer.estimate = Some(trend.per_year);
            answer.gold_issues = share(question, part).map_or(0, |fit| fit.gold_domain as usize);
            (answer.verdict, answer.why) = match (sign * low > 0.0, sign * high > 0.0) {
                (true, true) => (Verdict::Supported, "the interval excludes no change".into()),
                (false, false) => (
                    Verdict::Refuted,
                    "the interval lies on the other side".into(),
                ),
                _ => (Verdict::Undecided, "the interval includes no change".into()),
            };
        }
    }
    answer
}

impl Answer {
    fn measured(&mut self, quantity: String, fit: &Fit) {
        self.quantity = Some(quantity);
        self.estimate = Some(fit.share());
        self.gold_issues = fit.gold_domain as usize;
    }

    fn compared(&mut self, value: f64, low: f64, high: f64) {
        self.quantity = Some("difference".into());
        self.estimate = Some(Interval { value, low, high });
        let (verdict, why) = match (low > 0.0, high < 0.0) {
            (true, _) => (Verdict::Supported, "the interval is above 0"),
            (_, true) => (Verdict::Refuted, "the interval is below 0"),
            _ => (Verdict::Undecided, "the interval includes 0"),
        };
        self.verdict = verdict;
        self.why = why.into();
    }
}

/// The shares of all labels of a head.
fn fits(sample: &Sample<'_>, head: usize, part: Part<'_>) -> Option<Vec<Fit>> {
    let labels = 0..sample.taxonomy.heads[head].labels.len();
    let questions = labels.map(|label| Question::of_label(sample.taxonomy, head, label));
    questions
        .map(|question| sample.answer(&question, part, Coefficient::Share, Tuning::Best))
        .collect()
}

/// A claim's checkable form in words.
fn checked(claim: &Claim, taxonomy: &Taxonomy) -> Option<String> {
    let conditions = |condition: &Condition| {
        let head = &taxonomy.heads[condition.head];
        let labels = condition
            .labels
            .iter()
            .map(|&label| head.labels[label].name.as_str());
        format!("{} {}", head.name, labels.collect::<Vec<_>>().join(" or "))
    };
    let question = |question: &Question| {
        let within: Vec<String> = question.within.iter().map(conditions).collect();
        match within.is_empty() {
            true => conditions(&question.label),
            false => format!(
                "{} within {}",
                conditions(&question.label),
                within.join(" and ")
            ),
        }
    };
    let label = |head: usize, label: usize| question(&Question::of_label(taxonomy, head, label));
    let text = match &claim.form {
        Form::First {
            head,
            label: place,
            except,
        } => {
            let text = format!("{} has the largest share", label(*head, *place));
            let labels = except.clone();
            match labels.is_empty() {
                true => text,
                false => format!(
                    "{text} but for {}",
                    conditions(&Condition {
                        head: *head,
                        labels
                    })
                ),
            }
        }
        Form::Greater {
            question: asked,
            than,
        } => {
            let repo = claim.repo.as_deref().unwrap_or_default();
            return Some(format!(
                "{} is greater in {repo} than in {than}",
                question(asked)
            ));
        }
        Form::GreaterThanLabel {
            head,
            label: place,
            than,
        } => {
            let than = &taxonomy.heads[*head].labels[*than].name;
            format!("{} is greater than {than}", label(*head, *place))
        }
        Form::AtLeast {
            question: asked,
            value,
        } => format!("{} is at least {value}", question(asked)),
        Form::AtMost {
            question: asked,
            value,
        } => format!("{} is at most {value}", question(asked)),
        Form::Rising(asked) => format!("{} is rising", question(asked)),
        Form::Falling(asked) => format!("{} is falling", question(asked)),
        Form::Undecidable(_) => return None,
    };
    Some(match &claim.repo {
        Some(repo) => format!("{text}, in {repo}"),
        None => text,
    })
}
