//! A connection whose other end can neither send without end nor keep other probes waiting.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// After so many bytes it is another probe's turn: all take turns on one thread, and to understand what comes takes time.
const TURN: usize = 4 * 1024;

/// A connection that ends after so many bytes: what neither HTTP nor TLS has a bound for ends here.
#[derive(Debug)]
pub(crate) struct Bounded {
    stream: TcpStream,
    /// What may still be read.
    left: usize,
    /// What may be read before others have their turn.
    turn: usize,
}

impl Bounded {
    /// No more than `most` bytes are read.
    pub(crate) fn new(stream: TcpStream, most: usize) -> Self {
        Self { stream, left: most, turn: TURN }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn == 0 {
            this.turn = TURN;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = buffer.remaining().min(this.left).min(this.turn);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(context, &mut part) else {
            this.turn = TURN;
            return Poll::Pending;
        };
        result?;
        let read = part.filled().len();
        buffer.advance(read);
        this.left -= read;
        this.turn -= read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    /// Does nothing: what is asked for is known then, and dropping the connection ends both directions. To end one of them before
    /// that is a packet and a system call more, an eighth of what a probe by HTTP costs.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, pin::pin};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const MOST: usize = 10 * TURN + 7;

    /// A connection to a server that sends as fast as it can.
    async fn flooded() -> Bounded {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { while server.write_all(&[7; 8192]).await.is_ok() {} });
        Bounded::new(stream, MOST)
    }

    #[tokio::test]
    async fn an_endless_stream_ends() {
        let mut all = Vec::new();
        assert_eq!(flooded().await.read_to_end(&mut all).await.unwrap(), MOST);
        assert!(all.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn others_have_their_turn_before_all_is_read() {
        let (mut stream, read) = (flooded().await, Cell::new(0));
        let mut reading = pin!(async {
            let mut buffer = vec![0; MOST];
            while read.get() < MOST {
                read.set(read.get() + stream.read(&mut buffer).await.unwrap());
            }
        });
        let mut before = 0;
        poll_fn(|context| {
            let poll = reading.as_mut().poll(context);
            assert!(read.get() - before <= TURN, "{} bytes in one turn", read.get() - before);
            before = read.get();
            poll
        })
        .await;
        assert_eq!(before, MOST);
    }

    #[tokio::test]
    async fn what_is_shut_down_is_left_to_the_drop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.set_zero_linger().unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut bounded = Bounded::new(stream, MOST);
        bounded.shutdown().await.unwrap();
        bounded.write_all(&[7]).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), 7);
        drop(bounded);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
