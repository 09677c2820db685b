//! A wire to the test server that can be cut at a chosen moment.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    str::FromStr,
    sync::{Arc, Mutex},
    thread,
};

use sqlx::postgres::PgConnectOptions;

use crate::postgres_server::url;

/// When to cut, counted from the request that holds the marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears of it.
    BeforeRequest,
    /// The server has it, and nobody waits for the answer.
    AfterRequest,
    /// The server has committed; its answer is kept back.
    BeforeAnswer,
}

/// Cuts connections when it is told to, and lets everything else through.
pub(crate) struct Proxy {
    port: u16,
    armed: Armed,
}

type Armed = Arc<Mutex<Option<Order>>>;

/// What is to be cut.
struct Order {
    cut: Cut,
    marker: &'static [u8],
    times: u32,
}

impl Proxy {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Armed::default();
        let shared = Arc::clone(&armed);
        // It ends with the process: a listener cannot be told to stop.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connect(client, &shared);
            }
        });
        Self { port, armed }
    }

    /// The address of the test server by way of this wire.
    pub(crate) fn url(&self) -> String {
        let server = PgConnectOptions::from_str(&url()).unwrap();
        let (host, port) = (server.get_host(), server.get_port());
        let through = format!("127.0.0.1:{}", self.port);
        let url = url().replace(&format!("{host}:{port}"), &through);
        assert!(url.contains(&through), "the address names host and port");
        url
    }

    /// Cuts the next connections that send `marker`.
    pub(crate) fn arm(&self, cut: Cut, marker: &'static [u8], times: u32) {
        *self.armed.lock().unwrap() = Some(Order { cut, marker, times });
    }

    /// How many cuts are still to be made.
    pub(crate) fn left(&self) -> u32 {
        self.armed.lock().unwrap().as_ref().map_or(0, |o| o.times)
    }
}

fn connect(client: TcpStream, armed: &Armed) {
    let server = PgConnectOptions::from_str(&url()).unwrap();
    let server = TcpStream::connect((server.get_host(), server.get_port())).unwrap();
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let wire = Wire {
        client,
        server,
        answer: Mutex::new(false),
    };
    let (wire, armed) = (Arc::new(wire), Arc::clone(armed));
    let back = Arc::clone(&wire);
    thread::spawn(move || wire.requests(&armed));
    thread::spawn(move || back.answers());
}

struct Wire {
    client: TcpStream,
    server: TcpStream,
    /// Whether to keep back the answer that ends a transaction.
    answer: Mutex<bool>,
}

impl Wire {
    fn requests(&self, armed: &Armed) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = (&self.client).read(&mut buffer) {
            let request = &buffer[..count];
            let cut = ordered(&mut armed.lock().unwrap(), request);
            match cut {
                Some(Cut::BeforeRequest) => break,
                Some(Cut::BeforeAnswer) => *self.answer.lock().unwrap() = true,
                // Now: where there is much to do the answer might be faster than the cut.
                Some(Cut::AfterRequest) => drop(self.client.shutdown(Shutdown::Both)),
                None => {}
            }
            if (&self.server).write_all(request).is_err() || cut == Some(Cut::AfterRequest) {
                break;
            }
        }
        self.cut();
    }

    fn answers(&self) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = (&self.server).read(&mut buffer) {
            let answer = &buffer[..count];
            // ReadyForQuery, outside of a transaction: what was asked has been committed.
            let ended = contains(answer, b"Z\0\0\0\x05I");
            if *self.answer.lock().unwrap() && ended {
                break;
            }
            if (&self.client).write_all(answer).is_err() {
                break;
            }
        }
        self.cut();
    }

    fn cut(&self) {
        // Either may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// The cut to be made now, if any.
fn ordered(armed: &mut Option<Order>, request: &[u8]) -> Option<Cut> {
    let order = armed
        .as_mut()
        .filter(|order| contains(request, order.marker))?;
    order.times -= 1;
    let cut = order.cut;
    if order.times == 0 {
        *armed = None;
    }
    Some(cut)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
