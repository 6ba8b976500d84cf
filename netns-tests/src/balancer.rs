//! The real `lb`, run in its namespace as a guard: started, asked, reloaded, killed, started again.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    bpf::{self, LinkInfo},
    netns::{Namespace, output},
    settings::Settings,
    topology::{LB_INTERFACE, Lab, extras::OtherHost, quiet_offloads},
    traffic::http,
    wait,
};

mod binary;
mod listed;
pub mod log;
pub mod metrics;
pub mod stats;

pub use binary::{binary, next_binary};
use log::Log;
use metrics::Metrics;

/// Longest wait for the daemon to be ready, reloaded or stopped: far more than it takes, for machines that are busy.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A running balancer, or one that was killed; killed when dropped. Its pins are the lab's to remove.
#[derive(Debug)]
pub struct Balancer {
    namespace: Arc<Namespace>,
    binary: PathBuf,
    config: PathBuf,
    pin_path: PathBuf,
    socket: PathBuf,
    metrics: SocketAddr,
    log: Log,
    /// The program that starts `lb`, with its arguments; none if it is started as it is.
    wrapper: Vec<OsString>,
    /// What `lb run` is started with besides.
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    child: Option<Child>,
}

impl Balancer {
    /// From here on it is another `lb` that is run.
    pub fn install(&mut self, binary: PathBuf) {
        self.binary = binary;
    }

    /// Starts `lb run` with these settings and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time.
    pub fn start(lab: &Lab, settings: &Settings) -> Result<Self> {
        Self::prepare(lab, settings)?.begin(lab)
    }

    /// The same with a file that says this.
    ///
    /// # Errors
    /// As of [`Balancer::start`].
    pub fn start_text(lab: &Lab, text: &str) -> Result<Self> {
        let balancer = Self::prepare(lab, &Settings::empty(lab))?;
        balancer.write(text)?;
        balancer.begin(lab)
    }

    fn begin(mut self, lab: &Lab) -> Result<Self> {
        self.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        Ok(self)
    }

    /// Writes the settings, but starts nothing yet.
    ///
    /// # Errors
    /// When no file can be written or no `lb` was built.
    pub fn prepare(lab: &Lab, settings: &Settings) -> Result<Self> {
        Self::of(lab, &lab.lb, ("lb.toml", lab.pin_path()), settings)
    }

    /// Starts a second balancer on that host beside the lab's own.
    ///
    /// # Errors
    /// When it ends or does not answer in time.
    pub fn start_other(lab: &Lab, host: &OtherHost, settings: &Settings) -> Result<Self> {
        let place = ("other.toml", lab.other_pin_path("other"));
        let mut balancer = Self::of(lab, &host.namespace, place, settings)?;
        balancer.start_again()?;
        quiet_offloads(&host.namespace, LB_INTERFACE)?;
        Ok(balancer)
    }

    /// One in this namespace, with a file of that name and these pins.
    fn of(lab: &Lab, namespace: &Arc<Namespace>, place: (&str, PathBuf), settings: &Settings) -> Result<Self> {
        let (file, pin_path) = place;
        let balancer = Self {
            namespace: Arc::clone(namespace),
            binary: binary()?,
            config: lab.folder().join(file),
            pin_path,
            socket: settings.socket.clone(),
            metrics: settings.metrics,
            log: lab.log().clone(),
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            child: None,
        };
        balancer.write(&settings.to_string())?;
        Ok(balancer)
    }

    /// Starts the daemon after [`Balancer::kill`] or [`Balancer::prepare`] and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = self.command();
        command.arg("run").arg("--config").arg(&self.config).args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        self.log.follow(child.stdout.take());
        self.log.follow(child.stderr.take());
        self.child = Some(child);
        wait::until("lb run serves, says `lb status`", LIMIT, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                // What it said is still on its way through the pipe.
                std::thread::sleep(Duration::from_millis(50));
                bail!("lb run ended: {status}");
            }
            let status = self.json(&["status"])?;
            // Without a daemon the command tells what the pinned tables hold.
            let ours = status["pid"].as_u64() == self.process().map(u64::from);
            let ready = ours && status["state"].as_str().is_some_and(|state| state != "starting");
            Ok(ready.then_some(()))
        })
    }

    /// From now on this `lb` is run, with this file, by a program that takes it as its last arguments.
    pub fn run_as(&mut self, program: &str, arguments: &[&str], binary: &Path, config: &Path) {
        self.wrapper = [program].iter().chain(arguments).map(OsString::from).collect();
        (self.binary, self.config) = (binary.to_owned(), config.to_owned());
    }

    fn wrapped(&self) -> Command {
        let Some((program, arguments)) = self.wrapper.split_first() else {
            return self.namespace.command(&self.binary);
        };
        let mut command = self.namespace.command(program);
        command.args(arguments).arg(&self.binary);
        command
    }

    /// One more argument of `lb run`, from the next start on.
    pub fn argue(&mut self, argument: impl Into<OsString>) {
        self.arguments.push(argument.into());
    }

    /// One more variable of its environment, from the next start on.
    pub fn set(&mut self, variable: &str, value: impl Into<OsString>) {
        self.environment.push((variable.into(), value.into()));
    }

    /// `lb` with this balancer's global options, to be run in its namespace.
    pub fn command(&self) -> Command {
        let mut command = self.wrapped();
        command.arg("--pin-path").arg(&self.pin_path).arg("--api").arg(&self.socket).env("NO_COLOR", "1");
        command
    }

    /// Runs an `lb` command to its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.command().args(arguments).output().with_context(|| format!("cannot run lb {arguments:?}"))
    }

    /// Runs an `lb` command that prints JSON.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = output(self.command().args(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&printed).with_context(|| format!("lb {arguments:?} printed no JSON: {printed}"))
    }

    /// Reads the Prometheus endpoint.
    ///
    /// # Errors
    /// When it does not answer or with something else.
    pub fn metrics(&self) -> Result<Metrics> {
        let answer = http::get(&self.namespace, self.metrics, "/metrics").context("the metrics endpoint")?;
        ensure!(answer.status == 200, "the metrics endpoint answers {}", answer.status);
        Ok(Metrics::parse(&String::from_utf8(answer.body)?))
    }

    /// Waits until exactly these backends are up for every VIP that has them, out of all that metrics tell of.
    ///
    /// # Errors
    /// When that does not come to be in time.
    pub fn wait_up(&self, names: &[&str]) -> Result<()> {
        wait::until(&format!("exactly {names:?} are up"), LIMIT, || {
            let metrics = self.metrics()?;
            let states: Vec<_> = metrics.all("lb_backend_up").collect();
            ensure!(!states.is_empty(), "no lb_backend_up in the metrics");
            let wrong = states.iter().find(|sample| {
                let should = sample.label("backend").is_some_and(|backend| names.contains(&backend));
                should != (sample.value > 0.5)
            });
            match wrong {
                Some(sample) => bail!("lb_backend_up{:?} is {}", sample.labels, sample.value),
                None => Ok(Some(())),
            }
        })
    }

    /// Writes the file and has it applied.
    ///
    /// # Errors
    /// When the daemon refuses it, or does nothing in time.
    pub fn reload(&self, settings: &Settings) -> Result<()> {
        self.reload_text(&settings.to_string())
    }

    /// The same, of a file with keys that [`Settings`] does not know.
    ///
    /// # Errors
    /// When the daemon refuses it, or does nothing in time.
    pub fn reload_text(&self, text: &str) -> Result<()> {
        let before = self.metrics()?;
        self.write(text)?;
        self.hang_up()?;
        wait::until("the daemon applies a changed file", LIMIT, || {
            let after = self.metrics()?;
            ensure!(after.value("lb_config_last_reload_successful")? > 0.5, "the daemon refused the file");
            let keys = [
                "lb_config_last_reload_successful",
                "lb_config_last_reload_success_timestamp_seconds",
                "lb_config_generation",
            ];
            let changed = keys.iter().any(|key| {
                let of = |metrics: &Metrics| metrics.value(key).ok().map(f64::to_bits);
                of(&before) != of(&after)
            });
            Ok(changed.then_some(()))
        })
    }

    /// Writes a file that must be refused, and waits until it was.
    ///
    /// # Errors
    /// When it is applied, or nothing happens in time.
    pub fn reload_refused(&self, text: &str) -> Result<()> {
        ensure!(
            self.metrics()?.value("lb_config_last_reload_successful")? > 0.5,
            "a refusal cannot be told from the one before: apply a good file first",
        );
        self.write(text)?;
        self.hang_up()?;
        wait::until("the daemon refuses a bad file", LIMIT, || {
            let successful = self.metrics()?.value("lb_config_last_reload_successful")?;
            Ok((successful < 0.5).then_some(()))
        })
    }

    /// Has the daemon read its file, whatever comes of it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Kills the daemon by SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Runs a daemon that kills itself at a phase of its start.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub fn start_cut_short(&self, phase: &str) -> Result<()> {
        let output = self.command().arg("run").arg("--config").arg(&self.config).env("LB_LATCH", phase).output()?;
        ensure!(output.status.signal() == Some(Signal::KILL.as_raw()), "it was not killed at {phase}: {output:?}");
        Ok(())
    }

    /// Waits until the daemon has been killed, by itself or others.
    ///
    /// # Errors
    /// When it does not run, or does not end so in time.
    pub fn wait_killed(&mut self) -> Result<()> {
        let status = self.ended()?;
        ensure!(status.signal() == Some(Signal::KILL.as_raw()), "the daemon ended: {status}");
        Ok(())
    }

    /// Stops the daemon by SIGTERM.
    ///
    /// # Errors
    /// When it does not run, or does not end well in time.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended()?;
        ensure!(status.success(), "the daemon ended: {status}");
        Ok(())
    }

    /// Waits for the end of the daemon.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the daemon does not run")?;
        wait::until("the daemon ends", LIMIT, || Ok(child.try_wait()?))
    }

    /// Numbers of the link that binds the program to the balancer's interface.
    ///
    /// # Errors
    /// When nothing is pinned.
    pub fn link(&self) -> Result<LinkInfo> {
        bpf::pinned_link(&self.pin_path.join(format!("link-{LB_INTERFACE}")))
    }

    /// What the daemon says.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The file that it reads.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where it pins.
    pub fn pin_path(&self) -> &Path {
        &self.pin_path
    }

    /// Number of the daemon's process, if it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Writes the file, and tells the daemon nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, text: &str) -> Result<()> {
        fs::write(&self.config, text).with_context(|| format!("cannot write {}", self.config.display()))
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the daemon does not run")?;
        let pid = Pid::from_child(child);
        kill_process(pid, signal).with_context(|| format!("cannot signal the daemon by {signal:?}"))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
    }
}
