//! One annotator's work: what is to be labelled, what is, and what may be shown.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::agreement::Agreement;
use super::markdown::safe_html;
use super::queue::{self, Queue};
use super::reading::Reading;
use super::store::{Store, StoreError};
use crate::annotation::{Annotation, Coverage, Line, Problem, parse};
use crate::issue::{Issue, IssueId};
use crate::model::{Classifier, Embedding, ModelError};
use crate::taxonomy::Taxonomy;
use crate::train::suspects::Suspect;

mod ranking;
mod view;

pub use view::{Found, Learning, NamedLabel, Status, Submission, Suggestion, View};

/// Issues that a search gives.
const FOUND: usize = 50;
/// Who takes longer between two labels has rested.
const REST: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
pub struct Settings {
    pub annotator: String,
    pub queue: Queue,
    /// Whether the model's labels are shown before the annotator has chosen, and chosen at first.
    pub suggest: bool,
    /// Of what is drawn at random.
    pub seed: u64,
}

/// Why something asked for cannot be done. Nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", .0.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; "))]
    Labels(Vec<Problem>),
    #[error("{0} is not among the issues: give its file with --issues")]
    Unknown(IssueId),
    #[error("{0} is not labelled yet, and a suggestion is not shown before")]
    Blind(IssueId),
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The issues, the annotator's file and what stands beside it. Everything may be called from several
/// threads.
pub struct Session {
    settings: Settings,
    taxonomy: Taxonomy,
    issues: Vec<Issue>,
    /// By issue, its title and body in small letters.
    words: Vec<String>,
    places: HashMap<IssueId, usize>,
    suspects: HashMap<IssueId, Vec<Suspect>>,
    classifier: Option<Classifier>,
    embeddings: Mutex<HashMap<usize, Embedding>>,
    state: Mutex<State>,
}

struct State {
    store: Store,
    beside: Vec<Reading>,
    /// What is to be labelled, in the order in which it comes if nothing is ranked.
    candidates: Vec<usize>,
    /// What comes first.
    ranked: Vec<usize>,
    /// In the order in which they were skipped.
    skipped: Vec<usize>,
    /// Issues of which the annotator may have seen the model's labels.
    revealed: HashSet<IssueId>,
    pace: Pace,
    learning: Learning,
}

#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    labels: usize,
    timed: u32,
    spent: Duration,
}

impl Pace {
    fn label(&mut self) {
        let now = Instant::now();
        let took = self.last.map(|last| now - last);
        if let Some(took) = took.filter(|took| *took < REST) {
            self.timed += 1;
            self.spent += took;
        }
        self.last = Some(now);
        self.labels += 1;
    }
}

impl Session {
    /// `beside` has other annotators' files. With two and [`Queue::Disagreements`] what they label
    /// differently is decided; with any other queue what they label is labelled again, independently.
    /// `suspects` are what [`Queue::Review`] looks at.
    pub fn new(
        settings: Settings,
        issues: Vec<Issue>,
        taxonomy: Taxonomy,
        store: Store,
        beside: Vec<Reading>,
        suspects: Vec<Suspect>,
        classifier: Option<Classifier>,
    ) -> Self {
        let places: HashMap<IssueId, usize> = issues
            .iter()
            .enumerate()
            .map(|(place, issue)| (issue.id.clone(), place))
            .collect();
        let mut by_issue: HashMap<IssueId, Vec<Suspect>> = HashMap::new();
        let mut suspected = Vec::new();
        for suspect in suspects {
            let id = IssueId {
                repo: suspect.repo.clone(),
                number: suspect.number,
            };
            suspected.extend(places.get(&id).filter(|_| !by_issue.contains_key(&id)));
            by_issue.entry(id).or_default().push(suspect);
        }
        let candidates = match settings.queue {
            Queue::Review => suspected,
            _ => queue::random(&issues, settings.seed),
        };
        let words = issues
            .iter()
            .map(|issue| format!("{} {}\n{}", issue.id, issue.title, issue.body).to_lowercase());
        let state = State {
            store,
            beside,
            candidates,
            ranked: Vec::new(),
            skipped: Vec::new(),
            revealed: HashSet::new(),
            pace: Pace::default(),
            learning: Learning::default(),
        };
        let session = Self {
            words: words.collect(),
            places,
            suspects: by_issue,
            classifier,
            embeddings: Mutex::default(),
            state: Mutex::new(state),
            settings,
            taxonomy,
            issues,
        };
        session.choose_candidates(&mut session.state());
        session
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn taxonomy(&self) -> &Taxonomy {
        &self.taxonomy
    }

    /// The model's id, if there is one.
    pub fn model(&self) -> Option<&str> {
        self.classifier.as_ref().map(Classifier::id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is on disk is right, whatever a thread that panicked left here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, id: &IssueId) -> Result<usize, SessionError> {
        let place = self.places.get(id).copied();
        place.ok_or_else(|| SessionError::Unknown(id.clone()))
    }

    fn decides(&self) -> bool {
        self.settings.queue == Queue::Disagreements
    }

    /// Keeps of the candidates what the other annotators' files call for.
    fn choose_candidates(&self, state: &mut State) {
        if state.beside.is_empty() {
            return;
        }
        let wanted = |place: &usize| {
            let id = &self.issues[*place].id;
            let labels: Vec<_> = state.beside.iter().filter_map(|r| r.get(id)).collect();
            match self.decides() {
                true => labels.len() == 2 && labels[0].labels != labels[1].labels,
                false => !labels.is_empty(),
            }
        };
        let order = match self.settings.queue {
            Queue::Review => state.candidates.clone(),
            _ => queue::random(&self.issues, self.settings.seed),
        };
        state.candidates = order.into_iter().filter(wanted).collect();
    }

    /// Looks at the files again, which others may have changed.
    fn refresh(&self, state: &mut State) -> Result<(), StoreError> {
        let mut changed = false;
        for reading in &mut state.beside {
            changed |= reading.refresh(&self.taxonomy);
        }
        if changed {
            self.choose_candidates(state);
        }
        state.store.refresh()?;
        Ok(())
    }

    /// The next issue to label, `after` one that is not labelled now; `None` if all are. Skipped issues
    /// come again at the end.
    ///
    /// # Errors
    /// If the annotator's file was changed and cannot be read.
    pub fn next(&self, after: Option<&IssueId>) -> Result<Option<View>, SessionError> {
        let mut state = self.state();
        self.refresh(&mut state)?;
        let is_open = |place: usize| {
            let id = &self.issues[place].id;
            Some(id) != after && state.store.get(id).is_none()
        };
        let skipped: HashSet<usize> = state.skipped.iter().copied().collect();
        let fresh = state.ranked.iter().chain(&state.candidates).copied();
        let mut fresh = fresh.filter(|place| !skipped.contains(place) && is_open(*place));
        let next = fresh
            .next()
            .or_else(|| state.skipped.iter().copied().find(|&place| is_open(place)));
        Ok(next.map(|place| self.show(&state, place)))
    }

    /// # Errors
    /// If there is no such issue.
    pub fn view(&self, id: &IssueId) -> Result<View, SessionError> {
        let place = self.place(id)?;
        Ok(self.show(&self.state(), place))
    }

    fn show(&self, state: &State, place: usize) -> View {
        let issue = &self.issues[place];
        let value = |annotation| {
            let line = Line {
                annotation,
                taxonomy: &self.taxonomy,
                revises: false,
            };
            serde_json::to_value(line).expect("an annotation is JSON")
        };
        let readings = state.beside.iter().filter(|_| self.decides());
        let readings = readings.filter_map(|reading| {
            Some(NamedLabel {
                name: reading.name.clone(),
                label: value(reading.get(&issue.id)?),
            })
        });
        View {
            id: issue.id.clone(),
            title: issue.title.clone(),
            html: safe_html(&issue.body),
            url: issue.id.url(),
            created_at: issue.created_at.clone(),
            label: state.store.get(&issue.id).map(value),
            readings: readings.collect(),
        }
    }

    /// Adds a label to the file. It is on disk when this returns.
    ///
    /// # Errors
    /// Nothing was added.
    pub fn label(&self, submission: &Submission) -> Result<Status, SessionError> {
        let place = self.place(&submission.id)?;
        let mut state = self.state();
        self.refresh(&mut state)?;
        let annotation = self.annotation(submission, &state)?;
        state.store.add(annotation)?;
        state.skipped.retain(|&skipped| skipped != place);
        state.pace.label();
        Ok(self.status_of(&state))
    }

    /// The annotation that a submission makes, checked as one in a file.
    fn annotation(
        &self,
        submission: &Submission,
        state: &State,
    ) -> Result<Annotation, SessionError> {
        let id = &submission.id;
        let mut line = Map::new();
        line.insert("repo".into(), id.repo.clone().into());
        line.insert("number".into(), id.number.into());
        for head in &self.taxonomy.heads {
            let label = submission.labels.get(&head.name).map(String::as_str);
            // A head that is missing though it applies is a problem all the same.
            let label = label.or(head.applies_when.as_ref().map(|_| crate::taxonomy::NONE));
            line.extend(label.map(|label| (head.name.clone(), label.into())));
        }
        if let Some(confidence) = &submission.confidence {
            line.insert("confidence".into(), confidence.clone().into());
        }
        let lines = parse(
            Value::Object(line).to_string().as_bytes(),
            &self.taxonomy,
            Coverage::AllHeads,
        );
        let mut annotation = lines.map_err(SessionError::Labels)?.remove(0);
        annotation.annotator = Some(self.settings.annotator.clone());
        let note = submission.note.trim();
        annotation.note = (!note.is_empty()).then(|| note.to_owned());
        // After a restart it is not known what was shown of an issue that was labelled before.
        let revised = self.classifier.is_some() && state.store.get(id).is_some();
        annotation.suggested = revised || state.revealed.contains(id);
        if self.decides() {
            let readings = state.beside.iter().filter_map(|reading| reading.get(id));
            annotation.readings = readings.map(|reading| reading.labels.clone()).collect();
            match annotation.readings.len() {
                2 => annotation.adjudicated = annotation.readings[0] != annotation.readings[1],
                _ => annotation.readings.clear(),
            }
        }
        Ok(annotation)
    }

    /// Withdraws the label given last and shows its issue.
    ///
    /// # Errors
    /// Nothing was withdrawn.
    pub fn undo(&self) -> Result<Option<(View, Value)>, SessionError> {
        let mut state = self.state();
        self.refresh(&mut state)?;
        if let Some(last) = state.store.last() {
            self.place(&last.id)?;
        }
        let Some(withdrawn) = state.store.undo()? else {
            return Ok(None);
        };
        state.pace.labels = state.pace.labels.saturating_sub(1);
        let line = Line {
            annotation: &withdrawn,
            taxonomy: &self.taxonomy,
            revises: false,
        };
        let line = serde_json::to_value(line).expect("an annotation is JSON");
        let place = self.place(&withdrawn.id)?;
        Ok(Some((self.show(&state, place), line)))
    }

    /// Puts an issue off to the end.
    ///
    /// # Errors
    /// If there is no such issue.
    pub fn skip(&self, id: &IssueId) -> Result<(), SessionError> {
        let place = self.place(id)?;
        let mut state = self.state();
        state.skipped.retain(|&skipped| skipped != place);
        state.skipped.push(place);
        Ok(())
    }

    /// Issues whose name, title and body have every word of `query`, those with it in the title first.
    pub fn search(&self, query: &str) -> Vec<Found> {
        let query = query.to_lowercase();
        let words: Vec<&str> = query.split_whitespace().collect();
        if words.is_empty() {
            return Vec::new();
        }
        let state = self.state();
        let all = |text: &str| words.iter().all(|word| text.contains(word));
        let matches = (0..self.issues.len()).filter(|&place| all(&self.words[place]));
        let (mut titles, bodies): (Vec<usize>, Vec<usize>) = matches
            .partition(|&place| all(self.words[place].split('\n').next().unwrap_or_default()));
        titles.extend(bodies);
        let found = titles.into_iter().take(FOUND).map(|place| {
            let issue = &self.issues[place];
            Found {
                id: issue.id.clone(),
                title: issue.title.clone(),
                labelled: state.store.get(&issue.id).is_some(),
            }
        });
        found.collect()
    }

    /// # Errors
    /// If the annotator's file was changed and cannot be read.
    pub fn status(&self) -> Result<Status, SessionError> {
        let mut state = self.state();
        self.refresh(&mut state)?;
        Ok(self.status_of(&state))
    }

    fn status_of(&self, state: &State) -> Status {
        let done = state.candidates.iter();
        let done = done.filter(|&&place| state.store.get(&self.issues[place].id).is_some());
        let Pace {
            labels,
            timed,
            spent,
            ..
        } = &state.pace;
        Status {
            done: done.count(),
            total: state.candidates.len(),
            labels: state.store.len(),
            given: *labels,
            skipped: state.skipped.len(),
            seconds_each: (*timed > 0).then(|| spent.as_secs_f64() / f64::from(*timed)),
            agreement: self.agreement(state),
            learning: state.learning,
        }
    }

    /// Of every two annotators. Between two readings that are decided on, the one who decides is none.
    fn agreement(&self, state: &State) -> Vec<Agreement> {
        let mut agreement = Vec::new();
        for (index, first) in state.beside.iter().enumerate() {
            for second in &state.beside[index + 1..] {
                let pairs = first.annotations.iter();
                let pairs = pairs.filter_map(|a| Some((a, second.get(&a.id)?)));
                let names = [first.name.as_str(), second.name.as_str()];
                agreement.push(Agreement::of(&self.taxonomy, names, pairs));
            }
            if !self.decides() {
                let pairs = first.annotations.iter();
                let pairs = pairs.filter_map(|a| Some((a, state.store.get(&a.id)?)));
                let names = [first.name.as_str(), self.settings.annotator.as_str()];
                agreement.push(Agreement::of(&self.taxonomy, names, pairs));
            }
        }
        agreement
    }

    /// What the model says of an issue, and why it is reviewed. From then on its labels are recorded as
    /// given in knowledge of that.
    ///
    /// # Errors
    /// [`SessionError::Blind`] of an issue without a label, unless suggestions were asked for.
    pub fn suggestion(&self, id: &IssueId) -> Result<Option<Suggestion>, SessionError> {
        let place = self.place(id)?;
        if !self.settings.suggest && self.state().store.get(id).is_none() {
            return Err(SessionError::Blind(id.clone()));
        }
        let suspects = self.suspects.get(id).cloned().unwrap_or_default();
        let (mut labels, mut probabilities) = (Map::new(), Map::new());
        if let Some(classifier) = &self.classifier {
            let known = self.embeddings().get(&place).cloned();
            let embedding = match known {
                Some(embedding) => embedding,
                None => classifier.embed(&self.issues[place..=place])?.remove(0),
            };
            let heads = classifier.decode(&embedding);
            for (index, (head, said)) in self.taxonomy.heads.iter().zip(heads).enumerate() {
                let label = self.taxonomy.label_name(index, said.label);
                labels.insert(head.name.clone(), label.into());
                probabilities.insert(head.name.clone(), said.probability.into());
            }
        }
        if labels.is_empty() && suspects.is_empty() {
            return Ok(None);
        }
        self.state().revealed.insert(id.clone());
        Ok(Some(Suggestion {
            model: self.model().map(str::to_owned),
            labels,
            probabilities,
            suspects,
        }))
    }

    fn embeddings(&self) -> MutexGuard<'_, HashMap<usize, Embedding>> {
        self.embeddings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
