//! What a corpus says of a claim.

use super::claims::{Claim, Form};
use super::estimate::{Coefficient, Fit, Tuning};
use super::findings::{Answer, Interval, Verdict};
use super::interval::{Z, difference};
use super::prevalence::trend;
use super::question::{Condition, Question};
use super::ranking::Ranking;
use super::sample::{Part, Sample};
use crate::taxonomy::Taxonomy;

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
