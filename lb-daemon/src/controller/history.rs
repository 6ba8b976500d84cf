//! Which configuration is in force, which were before it, and what waits for confirmation.
//!
//! On disk the order is: first what is to happen if nobody confirms, then the generation, and only then the tables. So a
//! daemon that dies anywhere in between finds at its next start what was wanted, or what was there before, and brings the
//! tables to that.

mod error;

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tracing::{info, warn};

pub use self::error::{ConfirmError, NotKept};
use super::{change::Change, snapshot::InForce, work::chain};
use crate::{
    config::Bundle,
    model::Config,
    state::{About, Author, Folder, Generation, Generations, Origin, Pending, Start, StateError, choose},
};

/// The file of what waits for confirmation, and its kind.
const PENDING: (&str, &str) = ("pending.json", "pending");
/// The folder of the generations.
const GENERATIONS: &str = "generations";
/// Pause after bringing back a generation failed.
const RETRY: Duration = Duration::from_secs(10);

/// What is in force, and what was.
pub struct History {
    folder: Folder,
    generations: Generations,
    current: Generation,
    /// What the daemon's file said when it was last read.
    file_digest: String,
    waiting: Option<Waiting>,
    /// The current generation is not on disk yet: the daemon has just begun.
    fresh: bool,
    /// The highest number that was ever promised to wait for confirmation. Should what waits not be removable, no other
    /// generation may be taken for it.
    promised: u64,
    /// Why it is not sure that a confirmation outlives a power cut.
    unsure: Option<String>,
}

/// A generation that goes unless it is confirmed in time.
struct Waiting {
    pending: Pending,
    until: Instant,
    /// Why bringing back the one before it failed, if it did.
    failing: Option<String>,
}

/// How a generation comes about.
pub(super) struct Cause {
    pub(super) origin: Origin,
    pub(super) author: Author,
    pub(super) reason: Option<String>,
    /// Whose texts it has.
    pub(super) of: Option<u64>,
    /// What the daemon's file says now, if it could be read.
    pub(super) file_digest: Option<String>,
}

impl History {
    /// Looks at what is kept for the instance at `pin_path`, and decides which configuration is to be in force: that of
    /// the file, or a generation that was made over the same file. Nothing is written yet.
    pub fn begin(state_dir: &Path, pin_path: &Path, file: &Bundle, config: Config) -> (Self, Config) {
        let folder = Folder::of(state_dir, pin_path);
        let generations = Generations::open(folder.inner(GENERATIONS));
        for complaint in generations.complaints() {
            warn!(reason = complaint, "a generation is skipped");
        }
        let pending = folder.read::<Pending>(PENDING.0).unwrap_or_else(|error| {
            warn!(reason = chain(&error), "what waits for confirmation is taken from the generation itself");
            generations.newest().and_then(|newest| newest.pending.clone())
        });
        let now = seconds(SystemTime::now());
        let file_digest = file.digest();
        let start = choose(&file_digest, generations.newest(), pending.as_ref(), now);
        let promised = pending.as_ref().map_or(0, |pending| pending.generation);
        let mut history = Self {
            current: fresh(generations.next(promised), file, &file_digest, now),
            folder,
            generations,
            file_digest,
            waiting: None,
            fresh: true,
            promised,
            unsure: None,
        };
        let kept = match start {
            Start::File => None,
            Start::Newest => history.resume(&config, pending),
            Start::Back(to) => history.go_back(&config, to),
        };
        (history, kept.unwrap_or(config))
    }

    /// Goes on with the newest generation. `None` if it cannot be served by a daemon with the settings of the file.
    fn resume(&mut self, file: &Config, pending: Option<Pending>) -> Option<Config> {
        let (mut newest, config) = self.usable(self.generations.newest()?.number, file)?;
        let waiting = pending.filter(|pending| pending.generation == newest.about.number);
        let until = |pending: &Pending| Instant::now() + Duration::from_secs(pending.left(seconds(SystemTime::now())));
        self.waiting = waiting.map(|pending| Waiting { until: until(&pending), pending, failing: None });
        self.fresh = newest.about.file_digest != self.file_digest;
        newest.about.file_digest.clone_from(&self.file_digest);
        self.current = newest;
        Some(config)
    }

    /// Takes the texts of the generation that is to come back, or of the newest before it that can be served.
    fn go_back(&mut self, file: &Config, to: u64) -> Option<Config> {
        let unconfirmed = self.generations.newest()?.number;
        let older: Vec<u64> = self.generations.all().rev().map(|about| about.number).filter(|one| *one <= to).collect();
        let (kept, config) = older.into_iter().find_map(|number| self.usable(number, file))?;
        let current = &mut self.current.about;
        (current.origin, current.of) = (Origin::Rollback, Some(kept.about.number));
        current.reason = Some(format!("generation {unconfirmed} was not confirmed in time"));
        (current.digest, current.bytes) = (kept.about.digest, kept.about.bytes);
        self.current.bundle = kept.bundle;
        Some(config)
    }

    /// A generation and its configuration, if a daemon can serve it that has the settings of `file`.
    fn usable(&self, number: u64, file: &Config) -> Option<(Generation, Config)> {
        let unusable = |reason: String| warn!(generation = number, reason, "a generation is not used");
        let (kept, config) = self.read(number).map_err(|error| unusable(chain(&error))).ok()?;
        // A runner is started if that configuration needs one.
        match Change::between(file, &config, true) {
            Ok(_) => Some((kept, config)),
            Err(fixed) => {
                let keys: Vec<&str> = fixed.iter().map(|fixed| fixed.key).collect();
                unusable(format!("the file has another {}", keys.join(", ")));
                None
            }
        }
    }

    /// A generation that is kept, and its configuration.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(super) fn read(&self, number: u64) -> Result<(Generation, Config), NotKept> {
        if self.generations.get(number).is_none() {
            return Err(NotKept::Unknown { number, kept: self.kept() });
        }
        let kept = self.generations.load(number)?;
        let checked = kept.bundle.check();
        let why = checked.diagnostics.summary();
        Ok((kept, checked.config.ok_or(NotKept::Refused { number, why })?))
    }

    fn kept(&self) -> String {
        let mut numbers = self.generations.all().map(|about| about.number);
        match (numbers.next(), numbers.next_back()) {
            (Some(first), Some(last)) => format!("those from {first} to {last} are"),
            (Some(only), None) => format!("{only} is"),
            _ => "none is".into(),
        }
    }

    /// Writes down what the daemon begins with.
    pub(super) fn commence(&mut self) {
        if self.fresh {
            self.keep();
        }
        if self.waiting.is_none() {
            self.forget_pending();
        }
        self.tell("configuration in force");
    }

    /// Writes down what is to come back unless `cause`'s generation, the next one, is confirmed in time.
    ///
    /// # Errors
    /// When it cannot be written: then nobody could promise that it comes back.
    pub(super) fn promise(&mut self, wait: Duration) -> Result<Pending, StateError> {
        let pending = Pending {
            generation: self.next(),
            back_to: self.current.about.number,
            deadline: seconds(SystemTime::now() + wait),
            seconds: wait.as_secs(),
        };
        self.folder.write(PENDING.0, &pending, PENDING.1)?;
        self.promised = pending.generation;
        Ok(pending)
    }

    /// Takes a promise back whose generation did not come about.
    pub(super) fn forget_pending(&mut self) {
        self.waiting = None;
        match self.folder.remove(PENDING.0).and_then(|()| self.folder.sync()) {
            Ok(()) => self.promised = 0,
            // It names a generation that is never the newest, and is ignored therefore.
            Err(error) => warn!(error = chain(&error), "what waited for confirmation cannot be removed"),
        }
    }

    /// Notes that texts are in force: a new generation.
    pub(super) fn record(&mut self, bundle: Bundle, cause: Cause, pending: Option<Pending>) {
        let number = pending.as_ref().map_or_else(|| self.next(), |pending| pending.generation);
        let Cause { origin, author, reason, of, file_digest } = cause;
        if let Some(digest) = file_digest {
            self.file_digest = digest;
        }
        let about = About {
            number,
            time: seconds(SystemTime::now()),
            origin,
            author,
            reason,
            of,
            pending: pending.clone(),
            digest: bundle.digest(),
            file_digest: self.file_digest.clone(),
            bytes: size(&bundle),
        };
        self.current = Generation { about, bundle };
        let until = |pending: &Pending| Instant::now() + Duration::from_secs(pending.seconds);
        let waiting = pending.map(|pending| Waiting { until: until(&pending), pending, failing: None });
        let ended = self.waiting.is_some() && waiting.is_none();
        self.waiting = waiting;
        self.keep();
        if ended {
            self.forget_pending();
        }
        self.tell("configuration in force");
    }

    /// Notes what the daemon's file says, while the texts in force stay.
    pub(super) fn note_file(&mut self, digest: Option<String>) {
        let Some(digest) = digest.filter(|digest| *digest != self.current.about.file_digest) else { return };
        self.file_digest.clone_from(&digest);
        self.current.about.file_digest = digest;
        self.keep();
    }

    /// The generation in force needs no confirmation any more, as soon as nothing says that it waits for one.
    ///
    /// # Errors
    /// When it needs none, or that cannot be written down: the one before is brought back then.
    pub(super) fn confirm(&mut self) -> Result<u64, ConfirmError> {
        let waiting = self.waiting.as_ref().ok_or(ConfirmError::Nothing)?;
        let generation = waiting.pending.generation;
        self.folder.remove(PENDING.0)?;
        self.waiting = None;
        info!(generation, "confirmed");
        self.make_sure();
        Ok(generation)
    }

    /// Has the disk know of a confirmation.
    fn make_sure(&mut self) {
        let told = self.unsure.is_some();
        self.unsure = self.folder.sync().err().map(|error| chain(&error));
        if let Some(reason) = self.unsure.as_ref().filter(|_| !told) {
            warn!(reason, "a power cut may undo the confirmation; it is tried again");
        }
    }

    /// What waits for confirmation.
    pub(super) fn pending(&self) -> Option<&Pending> {
        self.waiting.as_ref().map(|waiting| &waiting.pending)
    }

    /// Until when it waits.
    pub(super) fn until(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.until)
    }

    /// Why bringing back the generation before failed when it was last tried.
    pub(super) fn failing(&self) -> Option<&str> {
        self.waiting.as_ref()?.failing.as_deref()
    }

    /// Bringing back the generation before failed: it is tried again.
    pub(super) fn postpone(&mut self, why: String) {
        if let Some(waiting) = &mut self.waiting {
            (waiting.until, waiting.failing) = (Instant::now() + RETRY, Some(why));
        }
    }

    /// The generation in force.
    pub(super) fn current(&self) -> &About {
        &self.current.about
    }

    /// The one that was in force before these texts were. One that was brought back counts as the one that first had them: to go
    /// back once more leads further back, and never to what was just left.
    pub(super) fn before(&self) -> Option<u64> {
        let mut first = &self.current.about;
        while let Some(of) = first.of.and_then(|of| self.generations.get(of)) {
            first = of;
        }
        let number = first.of.unwrap_or(first.number);
        let older = |about: &&About| about.number < number && about.digest != self.current.about.digest;
        self.generations.all().rev().find(older).map(|about| about.number)
    }

    /// All that are kept, newest first.
    pub(super) fn all(&self) -> Vec<About> {
        self.generations.all().rev().cloned().collect()
    }

    /// What is to be shown.
    pub(super) fn in_force(&self) -> InForce {
        InForce {
            about: self.current.about.clone(),
            differs_from_file: self.differs_from_file(),
            pending: self.pending().cloned(),
            problems: self.problems(),
        }
    }

    fn differs_from_file(&self) -> bool {
        self.current.about.digest != self.file_digest
    }

    /// Writes what could not be written before.
    pub(super) fn save(&mut self) {
        self.generations.save();
        if self.unsure.is_some() {
            self.make_sure();
        }
    }

    /// What an operator should look at.
    fn problems(&self) -> Vec<String> {
        let unsaved = self.generations.failing();
        let unsaved = unsaved.map(|why| format!("generations cannot be kept, a restart loses them: {why}"));
        let failing = self.waiting.as_ref().and_then(|waiting| {
            let why = waiting.failing.as_ref()?;
            Some(format!("going back to generation {} fails: {why}", waiting.pending.back_to))
        });
        let unsure = self.unsure.as_ref().map(|why| format!("a power cut may undo the last confirmation: {why}"));
        unsaved.into_iter().chain(failing).chain(unsure).collect()
    }

    fn next(&self) -> u64 {
        self.generations.next(self.current.about.number.max(self.promised))
    }

    fn keep(&mut self) {
        self.fresh = false;
        let named: Vec<u64> = self.pending().map_or_else(Vec::new, |one| vec![one.generation, one.back_to]);
        let failing = self.generations.failing().is_some();
        self.generations.keep(self.current.clone(), &named);
        if let Some(reason) = self.generations.failing().filter(|_| !failing) {
            warn!(reason, "generations cannot be kept; a restart loses them");
        }
    }

    fn tell(&self, message: &'static str) {
        let About { number, origin, author, reason, of, .. } = self.current();
        let (origin, by, differs_from_file) = (origin.name(), author.known(), self.differs_from_file());
        info!(generation = number, origin, by, reason, of, differs_from_file, "{message}");
        if let Some(Pending { generation, back_to, .. }) = self.pending() {
            let seconds = self.until().map(|until| until.saturating_duration_since(Instant::now()).as_secs());
            info!(generation, back_to, seconds, "waits for `lb confirm`");
        }
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("current", &self.current.about).finish_non_exhaustive()
    }
}

/// A generation of the file's texts, which is in force unless there is a better one.
fn fresh(number: u64, file: &Bundle, digest: &str, now: u64) -> Generation {
    let about = About {
        number,
        time: now,
        origin: Origin::Start,
        author: Author::default(),
        reason: None,
        of: None,
        pending: None,
        digest: digest.to_owned(),
        file_digest: digest.to_owned(),
        bytes: size(file),
    };
    Generation { about, bundle: file.clone() }
}

fn size(bundle: &Bundle) -> u64 {
    bundle.files.values().map(|text| text.len() as u64).sum()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
