use std::os::unix::net::UnixStream as StdUnixStream;

use futures_util::future::join_all;
use tokio::{
    io::{Lines, ReadHalf, WriteHalf, split},
    time::sleep,
};

use super::*;
use crate::runner::How;

const MOMENT: Duration = Duration::from_millis(100);

/// The runner's end of the socket, in the test's hands.
struct Fake {
    orders: Lines<BufReader<ReadHalf<UnixStream>>>,
    reports: WriteHalf<UnixStream>,
}

impl Fake {
    fn new() -> (Runner, Self) {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (orders, reports) = split(UnixStream::from_std(theirs).unwrap());
        (Runner::at(ours).unwrap(), Self { orders: BufReader::new(orders).lines(), reports })
    }

    async fn order(&mut self) -> u64 {
        let line = timeout(MOMENT * 50, self.orders.next_line()).await.expect("an order").unwrap().unwrap();
        serde_json::from_str::<Order>(&line).unwrap().number
    }

    async fn report(&mut self, number: u64, how: How, over: bool) {
        let report = Report { number, outcome: Outcome::Ended(Ended { how, line: None }), over };
        let line = serde_json::to_string(&report).unwrap() + "\n";
        self.reports.write_all(line.as_bytes()).await.unwrap();
    }
}

/// The program of one of many checks.
fn program(check: usize) -> Program {
    let env = BTreeMap::from([("LB_CHECK".to_owned(), check.to_string())]);
    Program { argv: vec!["/bin/check".into()], env, input: None, timeout: MOMENT * 50 }
}

fn hurried(check: usize) -> Program {
    Program { timeout: MOMENT, ..program(check) }
}

#[tokio::test]
async fn what_was_killed_and_is_not_gone_keeps_its_place() {
    let (runner, mut fake) = Fake::new();
    let asked = join_all((0..MOST).map(|n| runner.run(program(n))));
    let (answers, ()) = tokio::join!(asked, async {
        for _ in 0..MOST {
            let number = fake.order().await;
            fake.report(number, How::Late, false).await;
        }
    });
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|ended| ended.how == How::Late)), "{answers:?}");
    assert_eq!(runner.run(hurried(MOST)).await, Err(Lacking::Busy));
    // One of them is gone at last. That is no answer to anybody else.
    fake.report(7, How::Signal(9), true).await;
    let (ended, ()) = tokio::join!(runner.run(program(MOST)), async {
        let number = fake.order().await;
        fake.report(number, How::Code(0), true).await;
    });
    assert_eq!(ended.unwrap().how, How::Code(0));
}

#[tokio::test]
async fn who_is_told_of_changes_is_told_while_all_checks_hang() {
    let (runner, mut fake) = Fake::new();
    let hang = join_all((0..MOST * 2).map(|n| runner.run(program(n))));
    let told = async {
        for _ in 0..MOST {
            fake.order().await;
        }
        // The others wait.
        sleep(MOMENT).await;
        let told = async {
            let number = fake.order().await;
            fake.report(number, How::Code(0), true).await;
        };
        tokio::join!(runner.tell(Task::Run(hurried(MOST * 2))), told).0
    };
    tokio::select! {
        answers = hang => panic!("{answers:?}"),
        told = told => assert!(matches!(told, Ok(Outcome::Ended(Ended { how: How::Code(0), .. }))), "{told:?}"),
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_ended_is_not_started_again_until_it_is_gone() {
    let (runner, mut fake) = Fake::new();
    let (ended, number) = tokio::join!(runner.run(program(1)), async {
        let number = fake.order().await;
        fake.report(number, How::Late, false).await;
        number
    });
    assert_eq!(ended.unwrap().how, How::Late);
    for _ in 0..3 {
        assert_eq!(runner.run(hurried(1)).await, Err(Lacking::Lingers));
    }
    // Others take no notice, and what was only asked for did not reach the runner.
    let (ended, next) = tokio::join!(runner.run(program(2)), async {
        let number = fake.order().await;
        fake.report(number, How::Code(0), true).await;
        number
    });
    assert_eq!((ended.unwrap().how, next), (How::Code(0), number + 1));
    fake.report(number, How::Signal(9), true).await;
    let (ended, ()) = tokio::join!(runner.run(program(1)), async {
        let number = fake.order().await;
        fake.report(number, How::Code(3), true).await;
    });
    assert_eq!(ended.unwrap().how, How::Code(3));
}

#[tokio::test]
async fn the_same_program_waits_for_itself_and_that_alone_says_nothing() {
    let (runner, mut fake) = Fake::new();
    let first = runner.run(program(1));
    let second = async {
        let number = fake.order().await;
        // The first has not ended, and nobody said that it will not.
        assert_eq!(runner.run(hurried(1)).await, Err(Lacking::Busy));
        let report = async {
            sleep(MOMENT / 2).await;
            fake.report(number, How::Code(0), true).await;
            let number = fake.order().await;
            fake.report(number, How::Code(1), true).await;
        };
        tokio::join!(runner.run(program(1)), report).0
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.unwrap().how, second.unwrap().how), (How::Code(0), How::Code(1)));
}
