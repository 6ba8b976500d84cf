//! What hostile name servers, and senders of datagrams, answer a question with.

/// A name server's, or a datagram's way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answerer {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it sends back for a question, one after the other.
    pub(crate) answers: fn(&[u8]) -> Vec<Vec<u8>>,
    /// Whether answers come from an address that was not asked.
    pub(crate) strange: bool,
}

/// How many datagrams a flood has.
const FLOOD: usize = 500;
/// Largest message that a length prefix can tell of, and a datagram of these networks can have.
const LARGEST: usize = 60_000;

/// All of them.
pub(crate) const ALL: [Answerer; 12] = [
    of("mute", |_| Vec::new()),
    of("empty", |_| vec![Vec::new(); FLOOD]),
    of("echo", |question| vec![question.to_vec(); FLOOD]),
    of("noise", |question| (0..FLOOD).map(|nth| question.repeat(1 + nth % 50).split_off(nth % 7)).collect()),
    of("wrong-number", |question| vec![changed(&answer(question, 1, &record(&[0xc0, 12])), 0); FLOOD]),
    of("wrong-question", |question| vec![changed(&answer(question, 1, &[]), 14); FLOOD]),
    of("loop", |question| vec![answer(question, 1, &[0xc0, u8::try_from(question.len()).unwrap_or(0), 0, 5])]),
    of("loop-within", |question| {
        let own = 0xc000 | u16::try_from(question.len() + 12).unwrap_or(0);
        vec![answer(question, 1, &record(&own.to_be_bytes()))]
    }),
    of("lying-counts", |question| vec![answer(question, u16::MAX, &[])]),
    of("cut", |question| vec![answer(question, 2, &record(&[0xc0, 12])[..9])]),
    of("bomb", bomb),
    Answerer { name: "stranger", answers: |question| vec![answer(question, 0, &[]); FLOOD], strange: true },
];

const fn of(name: &'static str, answers: fn(&[u8]) -> Vec<Vec<u8>>) -> Answerer {
    Answerer { name, answers, strange: false }
}

/// An answer with these records, which begin where the question ended.
fn answer(question: &[u8], records: u16, bytes: &[u8]) -> Vec<u8> {
    // It answers, without an error, and of the question there is as much as was asked.
    let head = [question.get(..2).unwrap_or_default(), &[0x84, 0], question.get(4..6).unwrap_or_default()].concat();
    let mut message = [&head[..], &records.to_be_bytes(), question.get(8..).unwrap_or_default()].concat();
    message.extend_from_slice(bytes);
    message
}

/// A CNAME of the name that was asked for.
fn record(name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap_or(0).to_be_bytes();
    [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60], &length[..], name].concat()
}

fn changed(message: &[u8], at: usize) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(byte) = message.get_mut(at) {
        *byte ^= 0x55;
    }
    message
}

/// Names of 254 bytes, a pointer in place of each label, over and over.
fn bomb(question: &[u8]) -> Vec<Vec<u8>> {
    let start = question.len() + 12;
    let mut chain = vec![1, b'x', 0];
    for nth in 0..125 {
        let before = if nth == 0 { start } else { start + 3 + (nth - 1) * 4 };
        let pointer = 0xc000 | u16::try_from(before).unwrap_or(0);
        chain.extend([1, b'x']);
        chain.extend(pointer.to_be_bytes());
    }
    let last = 0xc000 | u16::try_from(start + chain.len() - 4).unwrap_or(0);
    let mut records = record(&chain);
    let mut count = 1;
    while question.len() + records.len() + 14 < LARGEST {
        records.extend(record(&last.to_be_bytes()));
        count += 1;
    }
    vec![answer(question, count, &records)]
}
