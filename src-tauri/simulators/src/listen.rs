//! The front door of a simulator: an HTTP/1.1 listener on loopback that can refuse connections for a while (and come
//! back on the same port) and hang up without an answer.
//!
//! A request is carried out in a task of its own and to its end, even when the caller has gone: like a real server,
//! and unlike a handler that dies with its connection.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What a handler does with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Sends this response.
    Reply(Response<Body>),
    /// Closes the connection without a byte of an answer.
    HangUp,
}

impl From<Response<Body>> for Outcome {
    fn from(response: Response<Body>) -> Self {
        Self::Reply(response)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    Open,
    Shut,
    Closed,
}

/// A listener at work. Cloning gives another handle on the same one; [`Door::close`] ends it.
#[derive(Clone, Debug)]
pub struct Door {
    address: SocketAddr,
    wish: Arc<watch::Sender<Gate>>,
    state: watch::Receiver<Gate>,
    keeper: Arc<JoinHandle<()>>,
}

impl Door {
    /// Listens on 127.0.0.1 on a port that the system chooses and hands every request to `handler`.
    ///
    /// # Errors
    /// The system's error where no port can be had.
    pub async fn open<H, F>(handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        Self::begin(handler, None).await
    }

    /// As [`Door::open`], over TLS.
    ///
    /// # Errors
    /// The system's error where no port can be had.
    pub async fn open_tls<H, F>(handler: H, config: Arc<ServerConfig>) -> io::Result<Self>
    where
        H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        Self::begin(handler, Some(config.into())).await
    }

    async fn begin<H, F>(handler: H, tls: Option<TlsAcceptor>) -> io::Result<Self>
    where
        H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (wish, wishes) = watch::channel(Gate::Open);
        let (reached, state) = watch::channel(Gate::Open);
        let keeper = Arc::new(tokio::spawn(keep(listener, address, wishes, reached, handler, tls)));
        Ok(Self { address, wish: Arc::new(wish), state, keeper })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection and refuses new ones until [`Door::reopen`]. Returns once that is so. Requests that
    /// are being carried out go on to their end; nobody hears their answer.
    pub async fn shut(&self) {
        self.reach(Gate::Shut).await;
    }

    /// Listens again, on the same port. Returns once connections are accepted.
    pub async fn reopen(&self) {
        self.reach(Gate::Open).await;
    }

    /// Ends it for good.
    pub async fn close(&self) {
        self.reach(Gate::Closed).await;
    }

    /// Ends it for good, without waiting until it is so: for `Drop`.
    pub fn abandon(&self) {
        self.wish.send_replace(Gate::Closed);
        self.keeper.abort();
    }

    async fn reach(&self, gate: Gate) {
        self.wish.send_if_modified(|wish| {
            let changes = *wish != Gate::Closed && *wish != gate;
            if changes {
                *wish = gate;
            }
            changes
        });
        // An error means that the keeper has gone, which is as closed as can be.
        let _ = self.state.clone().wait_for(|state| *state == gate || *state == Gate::Closed).await;
    }
}

async fn keep<H, F>(
    mut listener: TcpListener,
    address: SocketAddr,
    mut wishes: watch::Receiver<Gate>,
    reached: watch::Sender<Gate>,
    handler: H,
    tls: Option<TlsAcceptor>,
) where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, handler.clone(), tls.clone()));
                }
                Err(error) => {
                    tracing::warn!(kind = ?error.kind(), "a simulator could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            changed = wishes.changed() => {
                let wish = if changed.is_ok() { *wishes.borrow_and_update() } else { Gate::Closed };
                if wish == Gate::Open {
                    continue;
                }
                connections.shutdown().await;
                drop(listener);
                if wish == Gate::Closed {
                    break;
                }
                // Bound but not listening: the port stays ours, and whoever connects is refused.
                let held = hold(address).await;
                reached.send_replace(Gate::Shut);
                let next = wishes.wait_for(|wish| *wish != Gate::Shut).await.map_or(Gate::Closed, |wish| *wish);
                if next == Gate::Closed {
                    break;
                }
                listener = match held.listen(1024) {
                    Ok(listener) => listener,
                    Err(error) => {
                        tracing::warn!(kind = ?error.kind(), "a simulator could not listen again");
                        break;
                    }
                };
                reached.send_replace(Gate::Open);
            }
        }
    }
    reached.send_replace(Gate::Closed);
}

async fn hold(address: SocketAddr) -> TcpSocket {
    loop {
        let held = TcpSocket::new_v4().and_then(|socket| {
            // On Windows this option would let two programs share the port; elsewhere it skips the wait after closing.
            #[cfg(not(windows))]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        });
        match held {
            Ok(socket) => return socket,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn serve<H, F>(stream: TcpStream, handler: H, tls: Option<TlsAcceptor>)
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    match tls {
        None => converse(stream, handler).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => converse(stream, handler).await,
            // A caller that does not trust us says so by going away.
            Err(error) => tracing::debug!(kind = ?error.kind(), "a TLS handshake with a simulator failed"),
        },
    }
}

async fn converse<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let work = tokio::spawn(handler(request.map(Body::new)));
        async move {
            match work.await {
                Ok(Outcome::Reply(response)) => Ok(response),
                // An error here makes hyper close the connection without an answer.
                Ok(Outcome::HangUp) | Err(_) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            }
        }
    });
    // The error is the caller's: a connection that broke, or one that we hung up on.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}
