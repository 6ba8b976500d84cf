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

fn program() -> Program {
    Program { argv: vec!["/bin/check".into()], env: BTreeMap::new(), input: None, timeout: MOMENT * 50 }
}

fn hurried() -> Program {
    Program { timeout: MOMENT, ..program() }
}

#[tokio::test]
async fn what_was_killed_and_is_not_gone_keeps_its_place() {
    let (runner, mut fake) = Fake::new();
    let asked = join_all((0..MOST).map(|_| runner.run(program())));
    let (answers, ()) = tokio::join!(asked, async {
        for _ in 0..MOST {
            let number = fake.order().await;
            fake.report(number, How::Late, false).await;
        }
    });
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|ended| ended.how == How::Late)), "{answers:?}");
    assert_eq!(runner.run(hurried()).await, Err(Lacking::Busy));
    // One of them is gone at last. That is no answer to anybody else.
    fake.report(7, How::Signal(9), true).await;
    let (ended, ()) = tokio::join!(runner.run(program()), async {
        let number = fake.order().await;
        fake.report(number, How::Code(0), true).await;
    });
    assert_eq!(ended.unwrap().how, How::Code(0));
}

#[tokio::test]
async fn who_is_told_of_changes_is_told_while_all_checks_hang() {
    let (runner, mut fake) = Fake::new();
    let hang = join_all((0..MOST * 2).map(|_| runner.run(program())));
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
        tokio::join!(runner.tell(Task::Run(hurried())), told).0
    };
    tokio::select! {
        answers = hang => panic!("{answers:?}"),
        told = told => assert!(matches!(told, Ok(Outcome::Ended(Ended { how: How::Code(0), .. }))), "{told:?}"),
    }
}
