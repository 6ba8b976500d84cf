//! A changed file is applied without disturbing what serves, and a bad one changes nothing.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use netns_tests::{
    balancer::{self, Balancer},
    scenario::scenario,
    settings::{Health, Settings, TRACKED},
    topology::{Layout, VIP_V4, vips},
    traffic::{download::Download, http, is_silent, sessions::Sessions},
};

const MEGABYTE: u64 = 1_000_000;

#[test]
fn connections_stay_on_their_backend_while_others_are_added_and_removed() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(6), |lab| {
            let all = Settings::web(lab, Health::None).tracked(tracking);
            let few = all.clone().only(&["web-2", "web-4", "web-5"]);
            let lb = Balancer::start(lab, &few)?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 40)?;

            lb.reload(&all)?;
            lb.wait_up(&["web-1", "web-2", "web-3", "web-4", "web-5", "web-6"])?;
            sessions.all_stay()?;
            let answers = http::ask_many(&lab.client, vips(80)[0], 400);
            assert_eq!((answers.failed(), answers.by_backend.len()), (0, 6), "{answers}");
            sessions.all_stay()?;

            lb.reload(&few)?;
            sessions.all_stay()?;
            let answers = http::ask_many(&lab.client, vips(80)[0], 400);
            assert_eq!((answers.failed(), answers.by_backend.len()), (0, 3), "{answers}");
            sessions.all_stay()
        });
    }
}

#[test]
fn connections_stay_while_a_vip_becomes_adaptive_and_its_backends_change() {
    scenario(&Layout::with_backends(4), |lab| {
        let settings = Settings::web(lab, Health::None);
        let adaptive = settings.clone().tracked("adaptive");
        let lb = Balancer::start(lab, &settings.clone().only(&["web-1", "web-2"]))?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        lb.reload(&adaptive.clone().only(&["web-1", "web-2"]))?;
        sessions.all_stay()?;
        assert!(lb.metrics()?.sum("lb_vip_tracked_slots", &[])? > 0.0, "all of it was remembered so far");
        // Connections of which nothing is heard between the changes.
        lb.reload(&adaptive.clone().only(&["web-1", "web-2", "web-3"]))?;
        lb.reload(&adaptive)?;
        sessions.all_stay()?;
        assert_eq!(http::ask_many(&lab.client, vips(80)[0], 100).failed(), 0);
        sessions.all_stay()
    });
}

#[test]
fn a_vip_can_be_added_and_removed_while_another_serves() {
    let layout = Layout { http_ports: vec![80, 8080], ..Layout::with_backends(2) };
    scenario(&layout, |lab| {
        let one = Settings::web(lab, Health::None);
        let two = one.clone().vip("more", (VIP_V4, 8080, "tcp"), "web");
        let lb = Balancer::start(lab, &one)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 10)?;
        assert!(is_silent(&lab.client, vips(8080)[0]));
        lb.reload(&two)?;
        assert_eq!(http::ask_many(&lab.client, vips(8080)[0], 50).failed(), 0);
        lb.reload(&one)?;
        assert!(is_silent(&lab.client, vips(8080)[0]));
        sessions.all_stay()
    });
}

#[test]
fn a_reload_swaps_the_program_only_when_it_needs_another_and_no_packet_is_lost() {
    scenario(&Layout::with_backends(3), |lab| {
        let plain = Settings::web(lab, Health::None);
        let lb = Balancer::start(lab, &plain)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        let mut download = Download::start(&lab.client, vips(80)[0], 200 * MEGABYTE, 20 * MEGABYTE, 190 * MEGABYTE)?;
        let (mut link, mut packets) = (lb.link()?, lb.metrics()?.value("lb_vip_packets_total")?);

        let text = plain.to_string();
        let with = |dataplane: &str, vip: &str| {
            let text = text.replace("[dataplane]\n", &format!("[dataplane]\n{dataplane}\n"));
            text.replace("[[vip]]\n", &format!("[[vip]]\n{vip}\n"))
        };
        let deny = "deny = [\"203.0.113.0/24\"]";
        let (hash, pace) = ("hash = \"source-ip\"", "max_new_flows_per_second = 100_000");
        let limit = "source_limit = { packets_per_second = 10_000_000, entries = 1024 }";
        for (number, (file, swaps)) in [
            (plain.clone().only(&["web-1", "web-2", "web-3"]).to_string(), false),
            (with("", hash), true),
            (with("", "hash = \"source-ip-destination-port\""), false),
            (with(deny, pace), true),
            (with(&format!("{deny}\n{limit}"), hash), true),
            (text.clone(), true),
        ]
        .into_iter()
        .enumerate()
        {
            lb.reload_text(&file).with_context(|| format!("file {number}"))?;
            let now = lb.link()?;
            ensure!(now.id == link.id, "file {number}: the link was made anew");
            ensure!((now.program != link.program) == swaps, "file {number}: program {link:?}, then {now:?}");
            sessions.all_stay().with_context(|| format!("file {number}"))?;
            let metrics = lb.metrics()?;
            let counted = metrics.value("lb_vip_packets_total")?;
            ensure!(counted > packets, "file {number}: {counted} packets after {packets}");
            ensure!(metrics.value("lb_flow_table_entries")? >= 21.0, "file {number}: flows were forgotten");
            ensure!(metrics.value("lb_dropped_packets_total")? < 0.5, "file {number}: packets were dropped");
            (link, packets) = (now, counted);
        }
        ensure!(download.is_running(), "the download was to go on through all of it");
        download.release();
        assert_eq!(download.finish()?, 200 * MEGABYTE);
        sessions.all_stay()
    });
}

/// What is wrong, the file, and words of the complaint.
fn bad_files(good: &Settings) -> Vec<(&'static str, String, Vec<&'static str>)> {
    let text = good.to_string();
    let mut duplicate = good.clone();
    let mut again = duplicate.vips[0].clone();
    again.name = "again".into();
    duplicate.vips.push(again);
    let mut twice = good.clone();
    let mut again = twice.pools[0].backends[0].clone();
    again.name = "again".into();
    twice.pools[0].backends.push(again);
    let mut heavy = good.clone();
    heavy.backend("web-1").weight = 65_536;
    let mut poolless = good.clone();
    poolless.vips[0].pool = "nowhere".into();
    let mut elsewhere = good.clone();
    elsewhere.interfaces.push("eth7".into());
    vec![
        ("broken TOML", text.replace("[[vip]]", "[[vip"), vec!["lb.toml:"]),
        ("an unknown key", text.replace("[daemon]", "[daemon]\ncolour = 3"), vec!["lb.toml:", "colour"]),
        ("a VIP twice", duplicate.to_string(), vec!["lb.toml:", "192.0.2.10"]),
        ("a backend twice", twice.to_string(), vec!["lb.toml:", "10.1.1.2"]),
        ("a weight out of range", heavy.to_string(), vec!["lb.toml:", "`weight`", "65535"]),
        ("a VIP without a pool", poolless.to_string(), vec!["lb.toml:", "nowhere"]),
        ("an interface that does not exist", elsewhere.to_string(), vec!["eth7"]),
    ]
}

#[test]
fn a_bad_file_is_refused_with_its_reason_and_everything_goes_on() {
    scenario(&Layout::with_backends(2), |lab| {
        // Refusals are errors, for an operator must act.
        lab.log().expect("");
        let good = Settings::web(lab, Health::None);
        let lb = Balancer::start(lab, &good)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 10)?;
        for (name, bad, words) in bad_files(&good) {
            let mark = lb.log().mark();
            lb.reload_refused(&bad).context(name)?;
            lb.log().wait_for(mark, &words).context(name)?;
            sessions.all_stay().context(name)?;
            for to in vips(80) {
                let answers = http::ask_many(&lab.client, to, 20);
                ensure!(answers.failed() == 0, "{name}: {answers}");
            }
            lb.reload(&good).context(name)?;
        }
        sessions.all_stay()
    });
}

#[test]
fn an_unreadable_file_is_refused_and_everything_goes_on() {
    scenario(&Layout::with_backends(2), |lab| {
        lab.log().expect("");
        let lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 4)?;
        fs::remove_file(lb.config())?;
        fs::create_dir(lb.config())?;
        let mark = lb.log().mark();
        lb.hang_up()?;
        lb.log().wait_for(mark, &["lb.toml"])?;
        sessions.all_stay()
    });
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    scenario(&Layout::with_backends(2), |lab| {
        let settings = Settings::web(lab, Health::None);
        let lb = Balancer::start(lab, &settings)?;
        let link = lb.link()?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 4)?;
        let config = lb.config().display().to_string();

        // The same socket, other pins.
        let pins = lab.other_pin_path("second");
        let socket = settings.socket.display().to_string();
        let output = lab
            .lb
            .command(balancer::binary()?)
            .arg("--pin-path")
            .arg(&pins)
            .args(["--api", &socket])
            .args(["run", "--config", &config])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        ensure!(said.contains(&socket), "the socket is not named: {said}");

        // The same pins.
        let output = lb.cli(&["run", "--config", &config])?;
        ensure!(output.status.code() == Some(1), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));

        assert_eq!(lb.link()?, link);
        sessions.all_stay()
    });
}

#[test]
fn missing_privileges_are_named_and_the_running_daemon_goes_on() {
    scenario(&Layout::with_backends(2), |lab| {
        let settings = Settings::web(lab, Health::None);
        let lb = Balancer::start(lab, &settings)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 4)?;
        // Where an ordinary user can read.
        let folder = tempfile::Builder::new().prefix(&format!("{}-user-", lab.name())).tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let binary = folder.path().join("lb");
        fs::copy(balancer::binary()?, &binary)?;
        let config = folder.path().join("user.toml");
        let own = Settings {
            socket: folder.path().join("user.sock"),
            state_dir: folder.path().into(),
            metrics: ([127, 0, 0, 1], 9651).into(),
            ..settings
        };
        fs::write(&config, own.to_string())?;
        let mut command: Command = lab.lb.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&binary);
        command.arg("--pin-path").arg(lab.other_pin_path("user")).arg("--api").arg(&own.socket);
        let output = command.args(["run", "--config"]).arg(&config).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        for capability in ["CAP_BPF", "CAP_NET_ADMIN"] {
            ensure!(said.contains(capability), "{capability} is not named: {said}");
        }
        drop(lb);
        sessions.all_stay()
    });
}
