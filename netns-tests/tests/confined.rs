//! What a daemon that has started may still do, and what not: by /proc, and by what it does.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{self, Balancer},
    hang::threads,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, vips},
    traffic::{http, is_silent, sessions::Sessions},
};

const NET_ADMIN: u64 = 1 << 12;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// What `/proc/PID/task/TID/status` says of each thread.
fn statuses(process: u32) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let read = |(thread, name): (i32, String)| {
        let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"))?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok((name, lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()))
    };
    threads(process)?.into_iter().map(read).collect()
}

/// Demands that each thread is confined, and that only the controller's may load programs, but does not at the moment.
fn all_threads_are_confined(lb: &Balancer, bounding: Option<u64>) -> Result<()> {
    let statuses = statuses(lb.process().context("it does not run")?)?;
    // The main thread, workers, and the controller's.
    ensure!(statuses.len() >= 4, "only {} threads", statuses.len());
    for (name, status) in &statuses {
        let of = |key: &str| status.get(key).with_context(|| format!("{name} has no {key}"));
        let set = |key: &str| Ok::<_, anyhow::Error>(u64::from_str_radix(of(key)?, 16)?);
        let loading = if name == "controller" { PERFMON } else { 0 };
        let found = (set("CapEff")?, set("CapPrm")?, set("CapInh")?, set("CapAmb")?);
        ensure!(found == (BPF | NET_ADMIN, BPF | NET_ADMIN | loading, 0, 0), "{name}: {found:x?}");
        if let Some(bounding) = bounding {
            ensure!(set("CapBnd")? == bounding, "{name}: CapBnd is {}", of("CapBnd")?);
        }
        ensure!(of("NoNewPrivs")? == "1" && of("Seccomp")? == "2", "{name}: {status:?}");
    }
    let controllers = statuses.iter().filter(|(name, _)| name == "controller").count();
    ensure!(controllers == 1, "{controllers} controllers");
    Ok(())
}

#[test]
fn every_thread_is_confined_and_stays_so_while_programs_and_tables_are_replaced() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = Settings::web(lab, Health::Http(80));
        let mut lb = Balancer::start(lab, &settings)?;
        all_threads_are_confined(&lb, Some(BPF | NET_ADMIN))?;
        let status = lb.json(&["status"])?;
        let expected = serde_json::json!({
            "capabilities": ["CAP_BPF", "CAP_NET_ADMIN"], "while_loading": ["CAP_PERFMON"], "files": "whole", "calls": "whole",
        });
        ensure!(status["confinement"] == expected, "{status}");
        let printed = String::from_utf8(lb.cli(&["-v", "status"])?.stdout)?;
        let is_told = printed.lines().any(|line| line.split_whitespace().eq(["while", "loading", "CAP_PERFMON"]));
        ensure!(is_told, "{printed}");

        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        let text = settings.to_string();
        // Another program; then one with a new table.
        let files = [
            text.replace("[[vip]]\n", "[[vip]]\nhash = \"source-ip\"\n"),
            text.replace("[dataplane]\n", "[dataplane]\nsource_limit = { packets_per_second = 1_000_000 }\n"),
        ];
        for text in files {
            let before = lb.link()?;
            lb.reload_text(&text)?;
            let after = lb.link()?;
            ensure!(after.id == before.id && after.program != before.program, "{before:?}, then {after:?}");
            sessions.all_stay()?;
            all_threads_are_confined(&lb, Some(BPF | NET_ADMIN))?;
        }
        lb.stop()
    });
}

#[test]
fn files_outside_and_files_of_others_are_refused_with_the_reason() {
    scenario(&Layout::with_backends(1), |lab| {
        let settings = Settings::web(lab, Health::None);
        let lb = Balancer::start(lab, &settings)?;
        lab.log().expect("reload refused");
        let elsewhere = tempfile::Builder::new().prefix(&format!("{}-list-", lab.name())).tempdir()?;
        let good = settings.to_string();
        let with_list = |path: &Path| good.replace("[[vip]]\n", &format!("[[vip]]\nallow_file = {path:?}\n"));
        let outside = elsewhere.path().join("list");
        fs::write(&outside, "0.0.0.0/0\n::/0\n")?;
        let refusal = |text: &str| -> Result<String> {
            lb.reload_refused(text)?;
            let why = lb.json(&["status"])?["last_reload"].to_string();
            lb.reload_text(&good)?;
            Ok(why)
        };
        let why = refusal(&with_list(&outside))?;
        ensure!(why.contains("restart the daemon, forwarding goes on meanwhile"), "{why}");
        let foreign = lab.folder().join("list");
        fs::copy(&outside, &foreign)?;
        fs::set_permissions(&foreign, fs::Permissions::from_mode(0o600))?;
        chown(&foreign, Some(65534), None)?;
        let why = refusal(&with_list(&foreign))?;
        ensure!(why.contains("make the file the daemon's user's own, or readable for all"), "{why}");
        let (said, kept) = (lb.log().lines().join("\n"), fs::Permissions::from_mode(0o644));
        ensure!(said.contains("outside of what the daemon may read since it started"), "it says:\n{said}");
        ensure!(said.contains("gave up CAP_DAC_OVERRIDE"), "it says:\n{said}");
        fs::set_permissions(&foreign, kept)?;
        lb.reload_text(&with_list(&foreign))?;
        assert_eq!(http::ask_many(&lab.client, vips(80)[0], 20).failed(), 0);
        Ok(())
    });
}

#[test]
fn the_authorities_that_the_system_trusts_are_read_when_a_check_needs_them() {
    scenario(&Layout::with_backends(1), |lab| {
        let settings = Settings::web(lab, Health::Http(80));
        let mut lb = Balancer::prepare(lab, &settings)?;
        // What the system trusts, as any program over OpenSSL is told.
        let elsewhere = tempfile::Builder::new().prefix(&format!("{}-trust-", lab.name())).tempdir()?;
        let file = elsewhere.path().join("authorities.pem");
        lb.set("SSL_CERT_FILE", &file);
        fs::write(&file, include_str!("authority.pem"))?;
        lab.log().expect("vip has no serving backend");
        lab.log().expect("health checks cannot be made");
        lb.start_again()?;
        lb.wait_up(&["web-1"])?;
        let fails_for = |why: &str| {
            netns_tests::wait::until(&format!("the check fails: {why}"), balancer::LIMIT, || {
                let backends = lb.json(&["backend", "list"])?;
                let last = backends[0]["last_check"].as_str().context("no last check")?;
                Ok(last.contains(why).then_some(()))
            })
        };
        let https = settings.to_string().replace("type = \"http\"", "type = \"https\"");
        // The server speaks no TLS: the authorities were no obstacle.
        lb.reload_text(&https)?;
        fails_for("TLS")?;
        // What is there is read anew when checks change, and said if it is nothing.
        fs::write(&file, "")?;
        lb.reload_text(&https.replace("path = \"/\"", "path = \"/other\""))?;
        fails_for("has no CA certificates: install the package ca-certificates")?;
        lb.stop()
    });
}

#[test]
fn a_confined_daemon_takes_forwarding_down_when_it_is_told_to() {
    scenario(&Layout::with_backends(1), |lab| {
        let mut lb = Balancer::prepare(lab, &Settings::web(lab, Health::None))?;
        lb.argue("--detach-on-exit");
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        assert_eq!(http::ask_many(&lab.client, vips(80)[0], 20).failed(), 0);
        let mark = lb.log().mark();
        lb.stop()?;
        lb.log().wait_for(mark, &["forwarding is taken down"])?;
        ensure!(!lb.pin_path().exists(), "the pins are there");
        ensure!(!lab.lb.run("ip", &["link", "show", "eth0"])?.contains("xdp"), "the program is still attached");
        ensure!(!lab.folder().join("lb.sock").exists(), "the socket is there");
        assert!(is_silent(&lab.client, vips(80)[0]));
        Ok(())
    });
}

/// `lb` and a folder for an ordinary user.
fn settings_of_user(lab: &Lab, folder: &Path) -> Result<Settings> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    fs::copy(balancer::binary()?, folder.join("lb"))?;
    let (socket, state_dir) = (folder.join("lb.sock"), folder.join("state"));
    Ok(Settings { socket, state_dir, ..Settings::web(lab, Health::None) })
}

#[test]
fn an_ordinary_user_with_ambient_capabilities_is_enough() {
    scenario(&Layout::with_backends(2), |lab| {
        let folder = tempfile::Builder::new().prefix(&format!("{}-user-", lab.name())).tempdir()?;
        let settings = settings_of_user(lab, folder.path())?;
        let mut lb = Balancer::prepare(lab, &settings)?;
        fs::copy(lb.config(), folder.path().join("lb.toml"))?;
        lb.run_as(
            "setpriv",
            &[
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all,+bpf,+net_admin,+perfmon",
                "--ambient-caps=-all,+bpf,+net_admin,+perfmon",
                "--",
            ],
            &folder.path().join("lb"),
            &folder.path().join("lb.toml"),
        );
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        // It has no right to take from the bounding set; nothing comes of that without new privileges.
        all_threads_are_confined(&lb, None)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 4)?;
        fs::write(lb.config(), settings.to_string().replace("[[vip]]\n", "[[vip]]\nhash = \"source-ip\"\n"))?;
        let before = lb.link()?;
        lb.hang_up()?;
        netns_tests::wait::until("the program is replaced", balancer::LIMIT, || {
            Ok((lb.link()?.program != before.program).then_some(()))
        })?;
        sessions.all_stay()?;
        lb.stop()
    });
}
