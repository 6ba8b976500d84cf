//! With `watch = true` a written file comes into force by itself, and a bad one is refused once.

use std::{fs, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Layout, VIP_V4, vips},
    traffic::{http, is_silent, sessions::Sessions},
    wait,
};

/// Time in which the daemon looks at its files several times.
const LOOKS: Duration = Duration::from_secs(5);
const REFUSED: &str = "reload refused";

/// How often something was said after a mark.
fn said(lb: &Balancer, mark: usize, words: &str) -> usize {
    lb.log().lines().iter().skip(mark).filter(|line| line.contains(words)).count()
}

#[test]
fn written_files_come_into_force_and_a_broken_one_is_refused_once() {
    let layout = Layout { http_ports: vec![80, 8080], ..Layout::with_backends(2) };
    scenario(&layout, |lab| {
        lab.log().expect(REFUSED);
        let settings = Settings::web(lab, Health::None);
        let mut lb = Balancer::prepare(lab, &settings)?;
        let main = |watch: &str| {
            let text = settings.to_string().replace("[daemon]\n", &format!("[daemon]\nwatch = {watch}\n"));
            format!("include = [\"vips.d/*.toml\"]\n{text}")
        };
        let folder = lab.folder().join("vips.d");
        fs::create_dir(&folder)?;
        let vip = format!("[[vip]]\naddress = \"{VIP_V4}\"\nport = 8080\nprotocol = \"tcp\"\npool = \"web\"\n");
        let write = |text: &str| fs::write(folder.join("more.toml"), text);
        lb.write(&main("true"))?;
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 10)?;
        let serves = |what: &str, serves: bool| -> Result<()> {
            wait::until(what, LIMIT, || Ok((is_silent(&lab.client, vips(8080)[0]) != serves).then_some(())))
        };

        let mark = lb.log().mark();
        write(&format!("{vip}name = \"more\"\n"))?;
        serves("a new file's vip is served", true)?;
        ensure!(said(&lb, mark, "reading them again") == 1, "one change was read several times");
        assert_eq!(http::ask_many(&lab.client, vips(8080)[0], 50).failed(), 0);

        let mark = lb.log().mark();
        write(&format!("{vip}name = \"more\"\nmood = 1\n"))?;
        wait::until("a broken file is refused", LIMIT, || Ok((said(&lb, mark, REFUSED) > 0).then_some(())))?;
        sleep(LOOKS);
        ensure!(said(&lb, mark, REFUSED) == 1, "refused {} times", said(&lb, mark, REFUSED));
        let lines = lb.log().lines().split_off(mark).join("\n");
        ensure!(lines.contains("more.toml:7:1"), "the place is not named:\n{lines}");
        serves("what served before goes on", true)?;

        fs::remove_file(folder.join("more.toml"))?;
        serves("a removed file's vip is gone", false)?;
        wait::until("the reload has succeeded", LIMIT, || {
            Ok((lb.metrics()?.value("lb_config_last_reload_successful")? > 0.5).then_some(()))
        })?;

        let mark = lb.log().mark();
        lb.write(&main("false"))?;
        wait::until("the daemon stops looking", LIMIT, || Ok((said(&lb, mark, "reloaded") > 0).then_some(())))?;
        write(&format!("{vip}name = \"more\"\n"))?;
        sleep(LOOKS);
        serves("nobody looks any more", false)?;
        lb.hang_up()?;
        serves("but a signal still does it", true)?;
        sessions.all_stay()
    });
}
