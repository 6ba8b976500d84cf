//! What it takes to go from one configuration to another.

use std::fmt;

use super::engine::grip;
use crate::model::Config;

/// How a change of configuration is brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The program is bound to other interfaces, or otherwise to the same.
    pub rebinds: bool,
    /// The links are kept otherwise.
    pub regrips: bool,
    /// Known flows are steered anew, because their hash changes.
    pub forgets_flows: bool,
}

/// A setting that cannot change while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Its key in the file.
    pub key: &'static str,
    /// What runs.
    pub running: String,
    /// What was asked for.
    pub asked: String,
    /// What to do to change it all the same.
    pub remedy: &'static str,
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, running, asked, remedy } = self;
        write!(f, "{key} cannot change at run time ({running} to {asked}): {remedy}")
    }
}

const RESTART: &str = "restart the daemon; forwarding goes on meanwhile";

impl Change {
    /// Compares the running configuration with the one that is asked for. `has_runner` is whether there is a process that
    /// runs programs.
    ///
    /// # Errors
    /// All settings that differ and cannot change while the daemon runs.
    pub fn between(running: &Config, asked: &Config, has_runner: bool) -> Result<Self, Vec<Fixed>> {
        let fixed = fixed(running, asked, has_runner);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        let (old, new) = (&running.dataplane, &asked.dataplane);
        let (rebinds, forgets_flows) = (old.interfaces != new.interfaces, old.hash_seed != new.hash_seed);
        let regrips = grip(&running.daemon) != grip(&asked.daemon);
        Ok(Self { rebinds, regrips, forgets_flows })
    }
}

/// All settings that differ and cannot change while the daemon runs.
pub(super) fn fixed(running: &Config, asked: &Config, has_runner: bool) -> Vec<Fixed> {
    let listen = |config: &Config| config.metrics_listen.map_or_else(|| "off".into(), |address| address.to_string());
    let read_only = |config: &Config| {
        config.api_read_only_socket.as_ref().map_or_else(|| "none".into(), |path| path.display().to_string())
    };
    // The process that runs them is started before the daemon is confined.
    let runner = asked.needs_runner().filter(|_| !has_runner);
    let runner = runner.map(|key| (key, "not in use".to_owned(), "in use".to_owned(), RESTART));
    let settings = [
        (
            "daemon.state_dir",
            running.daemon.state_dir.display().to_string(),
            asked.daemon.state_dir.display().to_string(),
            RESTART,
        ),
        ("api.socket", running.api_socket.display().to_string(), asked.api_socket.display().to_string(), RESTART),
        ("api.read_only_socket", read_only(running), read_only(asked), RESTART),
        ("metrics.listen", listen(running), listen(asked), RESTART),
    ];
    let differing = settings.into_iter().chain(runner).filter(|(_, running, asked, _)| running != asked);
    differing.map(|(key, running, asked, remedy)| Fixed { key, running, asked, remedy }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::rig::{TEXT, config};

    #[test]
    fn the_first_program_takes_a_restart_unless_there_is_a_runner_already() {
        let exec = TEXT.replace("type = \"tcp\"\nprobe = \"direct\"\n", "type = \"exec\"\nargv = [\"/bin/true\"]\n");
        let told = format!("{TEXT}\n[daemon.on_change]\nwebhook = \"https://example.org/\"\n");
        let without = config(TEXT);
        for (text, key) in [(exec, "type = \"exec\""), (told, "daemon.on_change")] {
            let with = config(&text);
            let [refused] = fixed(&without, &with, false).try_into().unwrap();
            let told = refused.to_string();
            assert!(told.contains(key) && told.contains("restart the daemon"), "{told}");
            // They may come and go.
            for (running, asked) in [(&without, &with), (&with, &without), (&with, &with), (&without, &without)] {
                assert_eq!(fixed(running, asked, true), []);
            }
        }
    }
}
