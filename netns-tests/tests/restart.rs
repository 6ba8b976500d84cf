//! The daemon may die: packets need only the kernel.

use std::{fs, time::Duration};

use anyhow::ensure;
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Health, Settings, TRACKED},
    topology::{LB_INTERFACE, Layout, vips},
    traffic::{download::Download, http, is_silent, sessions::Sessions},
};

const MEGABYTE: u64 = 1_000_000;

#[test]
fn killing_the_daemon_during_a_download_loses_no_connection() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let mut lb = Balancer::start(lab, &Settings::web(lab, Health::Http(80)).tracked(tracking))?;
            lb.wait_up(&["web-1", "web-2", "web-3"])?;
            let link = lb.link()?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
            let start =
                |at: usize| Download::start(&lab.client, vips(80)[at], 100 * MEGABYTE, 50 * MEGABYTE, 60 * MEGABYTE);
            let downloads = [start(0)?, start(1)?];
            for download in &downloads {
                download.wait_for(10 * MEGABYTE, Duration::from_secs(20))?;
            }

            lb.kill()?;
            sessions.all_stay()?;
            for to in vips(80) {
                assert_eq!(http::ask_many(&lab.client, to, 100).failed(), 0, "while no daemon runs");
            }
            for download in &downloads {
                download.wait_for(60 * MEGABYTE, Duration::from_secs(20))?;
            }

            lb.start_again()?;
            assert_eq!(lb.link()?.id, link.id, "the link was made anew");
            assert!(downloads.iter().all(Download::is_running));
            sessions.all_stay()?;
            for download in downloads {
                assert_eq!(download.finish()?, 100 * MEGABYTE);
            }
            sessions.all_stay()?;
            assert_eq!(http::ask_many(&lab.client, vips(80)[0], 100).failed(), 0);
            Ok(())
        });
    }
}

#[test]
fn a_daemon_that_is_stopped_leaves_forwarding_in_place() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let mut lb = Balancer::start(lab, &Settings::web(lab, Health::None).tracked(tracking))?;
            let link = lb.link()?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
            let mark = lb.log().mark();
            lb.stop()?;
            lb.log().wait_for(mark, &["stopped; forwarding goes on", "`lb unload`"])?;
            sessions.all_stay()?;
            assert_eq!(http::ask_many(&lab.client, vips(80)[1], 100).failed(), 0);
            lb.start_again()?;
            assert_eq!(lb.link()?.id, link.id);
            sessions.all_stay()
        });
    }
}

#[test]
fn a_daemon_whose_file_cannot_be_read_to_its_end_still_stops() {
    scenario(&Layout::with_backends(1), |lab| {
        let mut lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        fs::remove_file(lb.config())?;
        // Opening it waits for a writer, as reading from a file server that is away would wait.
        rustix::fs::mkfifoat(rustix::fs::CWD, lb.config(), rustix::fs::Mode::RUSR)?;
        lb.hang_up()?;
        std::thread::sleep(Duration::from_millis(300));
        lb.stop()?;
        assert_eq!(http::ask_many(&lab.client, vips(80)[0], 20).failed(), 0);
        Ok(())
    });
}

#[test]
fn a_restart_with_a_changed_file_applies_it_and_keeps_connections() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(5), |lab| {
            let all = Settings::web(lab, Health::None).tracked(tracking);
            let mut lb = Balancer::start(lab, &all.clone().only(&["web-1", "web-3", "web-4"]))?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
            lb.kill()?;
            lb.write(&all.to_string())?;
            lb.start_again()?;
            sessions.all_stay()?;
            let answers = http::ask_many(&lab.client, vips(80)[0], 400);
            assert_eq!((answers.failed(), answers.by_backend.len()), (0, 5), "{answers}");
            sessions.all_stay()
        });
    }
}

#[test]
fn a_restart_with_a_file_that_needs_another_program_keeps_connections() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = Settings::web(lab, Health::None);
        let mut lb = Balancer::start(lab, &settings)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        let plain = settings.to_string();
        let files = [
            plain.replace("[[vip]]\n", "[[vip]]\nhash = \"source-ip\"\n"),
            plain.replace("[dataplane]\n", "[dataplane]\nsource_limit = { packets_per_second = 1_000_000 }\n"),
            plain,
        ];
        for text in files {
            let before = lb.link()?;
            lb.kill()?;
            lb.write(&text)?;
            lb.start_again()?;
            let after = lb.link()?;
            ensure!(after.id == before.id && after.program != before.program, "{before:?}, then {after:?}");
            sessions.all_stay()?;
            let dropped = lb.metrics()?.value("lb_dropped_packets_total")?;
            ensure!(dropped < 0.5, "{dropped} packets were dropped");
        }
        Ok(())
    });
}

#[test]
fn a_start_that_is_refused_leaves_the_program_of_before_in_force() {
    scenario(&Layout::with_backends(2), |lab| {
        let settings = Settings::web(lab, Health::None);
        let mut lb = Balancer::start(lab, &settings)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 10)?;
        let before = lb.link()?;
        lb.kill()?;
        // Another seed, by which known flows would be steered anew, and an interface that is not there.
        let asked = settings.to_string().replace("[dataplane]\n", "[dataplane]\nhash_seed = \"0x7\"\n");
        let interfaces = format!("interfaces = [\"{LB_INTERFACE}\", \"nosuch\"]");
        let asked = asked.replace(&format!("interfaces = [\"{LB_INTERFACE}\"]"), &interfaces);
        ensure!(asked.contains("nosuch"), "{asked}");
        lb.write(&asked)?;
        let config = lb.config().display().to_string();
        let output = lb.cli(&["run", "--config", &config])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && said.contains("no interface nosuch"), "{}: {said}", output.status);
        let after = lb.link()?;
        ensure!((after.id, after.program) == (before.id, before.program), "{before:?}, then {after:?}");
        sessions.all_stay()?;
        lb.write(&settings.to_string())?;
        lb.start_again()?;
        sessions.all_stay()
    });
}

#[test]
fn tables_of_another_version_are_refused_and_go_on_forwarding() {
    scenario(&Layout::with_backends(2), |lab| {
        let mut lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 4)?;
        lb.kill()?;
        // As a later lb would have left it.
        let other = lb.pin_path().join("v999");
        fs::create_dir(&other)?;
        let config = lb.config().display().to_string();
        let output = lb.cli(&["run", "--config", &config])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
        ensure!(said.contains("v999") && said.contains("lb unload"), "version and remedy are not named: {said}");
        sessions.all_stay()?;
        assert_eq!(http::ask_many(&lab.client, vips(80)[1], 20).failed(), 0);

        fs::remove_dir(&other)?;
        lb.start_again()?;
        sessions.all_stay()
    });
}

#[test]
fn load_alone_is_enough_to_forward_and_a_daemon_adopts_what_it_made() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let mut lb = Balancer::prepare(lab, &Settings::web(lab, Health::Http(80)).tracked(tracking))?;
            let config = lb.config().display().to_string();
            let output = lb.cli(&["load", "--config", &config])?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            lab.quiet_offloads_of_balancer()?;
            let link = lb.link()?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
            let answers = http::ask_many(&lab.client, vips(80)[0], 100);
            assert_eq!((answers.failed(), answers.by_backend.len()), (0, 3), "{answers}");
            lb.start_again()?;
            assert_eq!(lb.link()?.id, link.id);
            sessions.all_stay()
        });
    }
}

#[test]
fn unload_removes_program_and_pins() {
    scenario(&Layout::with_backends(1), |lab| {
        let mut lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        lb.stop()?;
        let output = lb.cli(&["unload"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(!lb.pin_path().join("prog").exists(), "the program is still pinned");
        ensure!(!lab.lb.run("ip", &["link", "show", "eth0"])?.contains("xdp"), "the program is still attached");
        assert!(is_silent(&lab.client, vips(80)[0]));
        Ok(())
    });
}
