//! Programs that are run for the daemon, by the process that does so: the binary itself.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    path::Path,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lb_daemon::{
    health::{Checks, Member, Stats, driver},
    model::{Ask, Check, Exec, Health, Protocol, Service},
    runner::{Ended, How, Lacking, MOST, Program, Runner, start},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

#[path = "runner/posts.rs"]
mod posts;

const SECOND: Duration = Duration::from_secs(1);

fn runner() -> Runner {
    Runner::at(start(Path::new(env!("CARGO_BIN_EXE_lb")), None).unwrap()).unwrap()
}

fn argv(words: &[&str]) -> Program {
    let argv = words.iter().map(|word| (*word).to_owned()).collect();
    Program { argv, env: BTreeMap::new(), input: None, timeout: SECOND * 20 }
}

/// The same program for another check.
fn numbered(check: usize, program: Program) -> Program {
    Program { env: BTreeMap::from([("LB_CHECK".to_owned(), check.to_string())]), ..program }
}

fn shell(script: &str) -> Program {
    argv(&["/bin/sh", "-c", script])
}

async fn ended(script: &str) -> (How, Option<String>) {
    let Ended { how, line } = runner().run(shell(script)).await.unwrap();
    (how, line)
}

/// Whether a process of this number runs; a zombie does not count as gone.
fn is_there(number: &str) -> bool {
    Path::new("/proc").join(number).exists()
}

async fn until_gone(numbers: &str) {
    let start = Instant::now();
    while numbers.split_whitespace().any(is_there) {
        assert!(start.elapsed() < SECOND * 10, "{numbers} are still there");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The number of the runner's own process.
async fn number_of(runner: &Runner) -> u32 {
    runner.run(shell("echo $PPID")).await.unwrap().line.unwrap().parse().unwrap()
}

/// The processes whose parent this is.
fn children(of: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(|one| one.parse().unwrap()).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn tells_the_exit_code_and_the_first_line() {
    assert_eq!(ended("exit 0").await, (How::Code(0), None));
    assert_eq!(ended("echo all is well; echo and more").await, (How::Code(0), Some("all is well".into())));
    assert_eq!(ended("echo broken >&2; exit 3").await, (How::Code(3), Some("broken".into())));
    assert_eq!(ended("echo; printf '\\n \\n'; echo broken; exit 3").await, (How::Code(3), Some("broken".into())));
    assert_eq!(ended("printf 'a\\tb\\033[31mc'; exit 1").await, (How::Code(1), Some("a b [31mc".into())));
    assert_eq!(ended("printf 'a\\342\\200\\256b'").await, (How::Code(0), Some("ab".into())));
    assert_eq!(ended("kill -9 $$").await, (How::Signal(9), None));
    let (how, line) = ended("head -c 100000 /dev/zero | tr '\\0' x").await;
    assert_eq!((how, line), (How::Code(0), Some("x".repeat(200))));
    let missing = runner().run(argv(&["/nonexistent/check"])).await.unwrap();
    assert!(matches!(missing.how, How::Never(why) if why.starts_with("/nonexistent/check: No such file")));
}

#[tokio::test]
async fn a_program_has_the_environment_that_is_given_and_no_privileges() {
    let env = BTreeMap::from([("LB_VIP".to_owned(), "192.0.2.1".to_owned())]);
    let (folder, runner) = (tempfile::tempdir().unwrap(), runner());
    let file = folder.path().join("told");
    let script = format!("(env; pwd; cat /proc/self/status; ls /proc/self/fd) > {}", file.display());
    let ended = runner.run(Program { env, ..shell(&script) }).await.unwrap();
    assert_eq!(ended.how, How::Code(0));
    let told = fs::read_to_string(file).unwrap();
    for line in [
        "LB_VIP=192.0.2.1",
        "/",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t0",
    ] {
        assert!(told.lines().any(|found| found == line), "{line} in:\n{told}");
    }
    let names: Vec<&str> = told.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.iter().all(|name| ["LB_VIP", "PATH", "PWD", "_", "OLDPWD", "SHLVL"].contains(name)), "{names:?}");
    // Input and output, and the folder that is listed.
    assert!(!told.lines().any(|line| line == "4"), "a descriptor too many:\n{told}");
}

#[tokio::test]
async fn a_program_reads_what_it_is_told_or_does_not() {
    let runner = runner();
    let text = "x".repeat(1 << 20) + "\n\"end\"";
    let told = |script: &str| Program { input: Some(text.clone()), ..shell(script) };
    let read = runner.run(told("wc -c; tail -n 1 /dev/stdin")).await.unwrap();
    assert_eq!((read.how, read.line), (How::Code(0), Some(text.len().to_string())));
    let last = runner.run(told("sleep 0.1; tail -n 1")).await.unwrap();
    assert_eq!(last.line.as_deref(), Some("\"end\""));
    let start = Instant::now();
    for (script, how) in [("exit 0", How::Code(0)), ("exec <&-; exit 7", How::Code(7))] {
        assert_eq!(runner.run(told(script)).await.unwrap().how, how);
    }
    let hangs = Program { timeout: SECOND, ..told("sleep 1000") };
    assert_eq!(runner.run(hangs).await.unwrap().how, How::Late);
    assert!(start.elapsed() < SECOND * 10, "{:?}", start.elapsed());
    // Without anything to read there is an end at once.
    assert_eq!(runner.run(shell("cat; echo over")).await.unwrap().line.as_deref(), Some("over"));
}

#[tokio::test]
async fn what_never_ends_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("numbers");
    let script = format!(
        "trap '' TERM INT HUP; echo started; sleep 1000 & echo $! >> {file}; (trap '' TERM; sleep 1000 & echo $! >> {file}; sleep 1000) & \
         echo $! >> {file}; echo $$ >> {file}; while :; do sleep 1000; done",
        file = file.display()
    );
    let (runner, start) = (runner(), Instant::now());
    let ended = runner.run(Program { timeout: SECOND, ..shell(&script) }).await.unwrap();
    assert_eq!((ended.how, ended.line.as_deref()), (How::Late, Some("started")));
    assert!((SECOND..SECOND * 4).contains(&start.elapsed()), "{:?}", start.elapsed());
    let numbers = fs::read_to_string(file).unwrap();
    assert_eq!(numbers.lines().count(), 4);
    until_gone(&numbers).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_even_in_a_session_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("numbers");
    // The second one holds the output open too.
    let script = format!(
        "setsid sh -c 'echo $$ >> {file}; exec sleep 1000' > /dev/null & (sleep 1000 & echo $! >> {file}); \
         while [ \"$(wc -l < {file})\" != 2 ]; do sleep 0.01; done",
        file = file.display()
    );
    let ended = runner_that_stays(&script).await;
    assert_eq!(ended.how, How::Code(0));
    until_gone(&fs::read_to_string(file).unwrap()).await;
}

/// Runs a script by a runner that goes on after it.
async fn runner_that_stays(script: &str) -> Ended {
    let runner = runner();
    let ended = runner.run(shell(script)).await.unwrap();
    tokio::spawn(async move {
        sleep(SECOND * 60).await;
        drop(runner);
    });
    ended
}

/// Traces the processes whose numbers it reads. What is traced and killed stays until its tracer ends, as if the kernel could
/// not end it.
const TRACER: &str = "my $call = shift; $| = 1; \
    while (<STDIN>) { syscall($call, 0x4206, $_ + 0, 0, 0) == 0 or die qq(no: $!\\n); print qq(held\\n) }";
/// ptrace(2).
const PTRACE: &str = if cfg!(target_arch = "x86_64") { "101" } else { "117" };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_killed_keeps_its_place_until_it_is_gone() {
    let (folder, runner) = (tempfile::tempdir().unwrap(), runner());
    let file = folder.path().join("numbers");
    let script = format!("echo $$ >> {}; exec sleep 1000", file.display());
    let hanging = |n: usize| Program { timeout: SECOND * 8, ..numbered(n, shell(&script)) };
    let hang = (0..MOST).map(|n| {
        let (runner, program) = (runner.clone(), hanging(n));
        tokio::spawn(async move { runner.run(program).await })
    });
    let hang: Vec<_> = hang.collect();
    let numbers = || fs::read_to_string(&file).unwrap_or_default();
    let all = async {
        while numbers().lines().count() < MOST {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SECOND * 6, all).await.expect("all of them run");
    let mut tracer = process::Command::new("perl")
        .args(["-e", TRACER, PTRACE])
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap();
    tracer.stdin.as_mut().unwrap().write_all(numbers().as_bytes()).unwrap();
    let held = BufReader::new(tracer.stdout.take().unwrap()).lines().take(MOST).map(Result::unwrap).count();
    assert_eq!(held, MOST, "needs the right to trace: root");
    for one in hang {
        assert_eq!(one.await.unwrap().unwrap().how, How::Late);
    }
    assert!(numbers().lines().all(is_there), "it was to be held");
    let next = |timeout| runner.run(Program { timeout, ..argv(&["/bin/true"]) });
    assert_eq!(next(SECOND).await, Err(Lacking::Busy));
    assert_eq!(runner.run(Program { timeout: SECOND, ..hanging(0) }).await, Err(Lacking::Lingers));
    // It ends with its input, and lets go.
    drop(tracer.stdin.take());
    tracer.wait().unwrap();
    assert_eq!(next(SECOND * 10).await.unwrap().how, How::Code(0));
    until_gone(&numbers()).await;
}

#[tokio::test]
async fn programs_are_ended_for_want_of_memory_before_the_runner_is() {
    let runner = runner();
    let wish =
        |of: &str| fs::read_to_string(format!("/proc/{of}/oom_score_adj")).unwrap().trim().parse::<i32>().unwrap();
    let ours = wish("self");
    let told = runner.run(shell("cat /proc/self/oom_score_adj")).await.unwrap().line.unwrap();
    assert_eq!(told.parse::<i32>().unwrap(), ours.max(500));
    assert_eq!(wish(&number_of(&runner).await.to_string()), ours);
}

#[tokio::test]
async fn a_runner_that_is_killed_is_known_to_be_gone() {
    let runner = runner();
    let number = number_of(&runner).await;
    let mut gone = runner.gone();
    assert!(!*gone.borrow());
    process::Command::new("kill").args(["-KILL", &number.to_string()]).status().unwrap();
    timeout(SECOND * 10, gone.wait_for(|gone| *gone)).await.expect("it is told").unwrap();
    assert_eq!(runner.run(argv(&["/bin/true"])).await, Err(Lacking::Gone));
}

#[tokio::test]
async fn endless_output_is_cut_short() {
    let start = Instant::now();
    let Ended { how, line } = runner().run(argv(&["/usr/bin/yes"])).await.unwrap();
    assert_eq!((how, line), (How::Endless, Some("y".into())));
    assert!(start.elapsed() < SECOND * 10);
}

#[tokio::test]
async fn programs_end_with_whoever_had_them_run_and_so_does_what_they_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("numbers");
    let runner = runner();
    let script = format!(
        "setsid sh -c 'echo $$ >> {file}; sleep 1000 & echo $! >> {file}; wait' & echo $$ >> {file}; sleep 1000",
        file = file.display()
    );
    let asked = shell(&script);
    // Nobody waits for it any more, and then nobody can.
    assert!(timeout(SECOND * 3, runner.run(asked)).await.is_err());
    drop(runner);
    let numbers = fs::read_to_string(file).unwrap();
    assert_eq!(numbers.lines().count(), 3);
    until_gone(&numbers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_programs_take_turns_and_leave_no_zombies() {
    let runner = runner();
    let number = number_of(&runner).await;
    let mut running = FuturesUnordered::new();
    for n in 0..10_000 {
        let (runner, program) = (runner.clone(), numbered(n, argv(&["/bin/true"])));
        running.push(async move { runner.run(Program { timeout: SECOND * 500, ..program }).await });
    }
    let most = tokio::spawn(async move {
        let mut most = 0;
        while is_there(&number.to_string()) && most <= MOST {
            most = most.max(children(number).len());
            sleep(Duration::from_millis(5)).await;
            if fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
                break;
            }
        }
        most
    });
    let mut well = 0;
    while let Some(ended) = running.next().await {
        assert_eq!(ended.unwrap().how, How::Code(0));
        well += 1;
    }
    assert_eq!(well, 10_000);
    let left = children(number).len();
    drop(runner);
    let most = most.await.unwrap();
    assert!((1..=MOST).contains(&most) && left == 0, "{most} at once, {left} left");
}

#[tokio::test]
async fn a_check_tells_the_program_what_it_is_asked_for() {
    let script =
        "echo $LB_VIP $LB_VIP_PORT $LB_PROTOCOL $LB_ADDRESS $LB_PORT $LB_CHECK $OWN; [ $LB_ADDRESS = 10.0.0.1 ]";
    let exec = Exec {
        argv: ["/bin/sh", "-c", script].map(Into::into).into(),
        env: BTreeMap::from([("OWN".to_owned(), "mine".to_owned())]),
    };
    let check = Check { port: Some(8080), route: lb_daemon::model::Route::Direct, ..Check::of(Ask::Exec(exec)) };
    let health = Arc::new(Health { checks: vec![check], ..Health::default() });
    let member = |backend: &str| Member {
        service: Service::of("192.0.2.1".parse().unwrap(), 443, Protocol::Tcp),
        backend: backend.parse::<IpAddr>().unwrap(),
    };
    let checks: Checks = ["10.0.0.1", "10.0.0.2"].map(|backend| (member(backend), Arc::clone(&health))).into();
    let (_checks, asked) = watch::channel(Arc::new(checks));
    let inputs = driver::Inputs {
        checks: asked,
        ways: watch::channel(Arc::default()).1,
        ejections: watch::channel(Arc::default()).1,
        hindered: watch::channel(Arc::default()).0,
        runner: Some(runner()),
        kept: BTreeMap::new(),
    };
    let (mut view, _driver) = driver::spawn(inputs, Stats::new().unwrap());
    let known = timeout(SECOND * 20, view.wait_for(|view| view.len() == 2)).await.unwrap().unwrap().clone();
    let (one, two) = (&known[&member("10.0.0.1")], &known[&member("10.0.0.2")]);
    assert_eq!((one.up, one.reason.as_str()), (true, "192.0.2.1 443 tcp 10.0.0.1 8080 exec mine"));
    assert_eq!((two.up, two.reason.as_str()), (false, "exit code 1: 192.0.2.1 443 tcp 10.0.0.2 8080 exec mine"));
}
