//! What an agent says: one line, as far as it comes within bounds.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Failed, Reach};
use crate::{
    health::agent::{LONGEST, Said},
    model::Payload,
};

pub(super) async fn attempt(reach: &Reach, send: Option<&Payload>) -> Result<Said, Failed> {
    let mut stream = reach.connect().await?;
    if let Some(Payload(bytes)) = send {
        stream.write_all(bytes).await?;
    }
    let mut line = [0; LONGEST];
    let mut length = 0;
    let ends = |line: &[u8]| line.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    while length < LONGEST {
        let read = stream.read(&mut line[length..]).await?;
        let is_over = read == 0 || ends(&line[length..length + read]);
        length += read;
        if is_over {
            return match Said::read(&line[..length]) {
                Some(said) => Ok(said),
                None if length == 0 => Err(Failed::Answer("it closed the connection and said nothing".into())),
                None => Err(Failed::Answer("it said nothing that is understood".into())),
            };
        }
    }
    Err(Failed::Answer(format!("it said more than {LONGEST} bytes on a line")))
}

#[cfg(test)]
mod tests;
