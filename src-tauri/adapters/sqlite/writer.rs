//! The one writer. It takes everything that waits, does it in one transaction, and answers after the commit.
//!
//! All that waits at one moment was asked for by callers none of whom has an answer yet, so their order among each other is
//! ours to choose: calls are sorted by kind into [lanes](Group) and each lane is done by a few statements over a whole set. A
//! caller who gives up waiting changes nothing: a call that is in the channel is done, whole, whoever listens. If a
//! statement fails, the group is rolled back and done again call by call, so that only the one that cannot be done is refused.
//! If storage itself fails, everybody is refused, now and later: what is on disk may no longer be known.

use std::{fmt, fs::File, future::Future, path::Path, sync::Arc};

use engine::{
    error::{Class, Code, Fault},
    keys::DerivedKey,
    ports::Clock,
};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    Options,
    anchor::Anchors,
    audit::{self, Head},
    fault, ledger, notes, queue,
};

/// More than can be waiting: no group is ever cut short in practice.
const GROUP: usize = 16_384;

/// Something to be written.
pub(super) trait Operation: Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// Does a whole batch inside the open transaction; one answer each, in order.
    fn apply(batch: &[&Self], store: &mut Store)
    -> impl Future<Output = Result<Vec<Self::Answer>, sqlx::Error>> + Send;
}

/// An operation and who waits for it.
pub(super) struct Call<O: Operation> {
    operation: O,
    reply: oneshot::Sender<Result<O::Answer, Fault>>,
}

struct Lane<O: Operation> {
    calls: Vec<Call<O>>,
    answers: Vec<O::Answer>,
}

impl<O: Operation> Default for Lane<O> {
    fn default() -> Self {
        Self { calls: Vec::new(), answers: Vec::new() }
    }
}

impl<O: Operation> Lane<O> {
    async fn apply(&mut self, store: &mut Store) -> Result<(), sqlx::Error> {
        if !self.calls.is_empty() {
            let batch: Vec<&O> = self.calls.iter().map(|call| &call.operation).collect();
            self.answers = O::apply(&batch, store).await?;
            debug_assert_eq!(self.answers.len(), self.calls.len());
        }
        Ok(())
    }

    fn answer(&mut self) {
        for (call, answer) in self.calls.drain(..).zip(self.answers.drain(..)) {
            // Nobody listens any more: done all the same.
            let _ = call.reply.send(Ok(answer));
        }
    }

    fn refuse(&mut self, fault: &Fault) {
        self.answers.clear();
        for call in self.calls.drain(..) {
            let _ = call.reply.send(Err(fault.clone()));
        }
    }
}

macro_rules! lanes {
    ($($variant:ident $lane:ident: $operation:ty,)*) => {
        pub(super) enum Op {
            $($variant(Call<$operation>),)*
            Close(oneshot::Sender<Result<(), Fault>>),
        }

        $(impl From<Call<$operation>> for Op {
            fn from(call: Call<$operation>) -> Op {
                Op::$variant(call)
            }
        })*

        /// Calls by kind, in the order in which they are done.
        #[derive(Default)]
        struct Group {
            $($lane: Lane<$operation>,)*
            closing: Vec<oneshot::Sender<Result<(), Fault>>>,
        }

        impl Group {
            fn push(&mut self, op: Op) {
                match op {
                    $(Op::$variant(call) => self.$lane.calls.push(call),)*
                    Op::Close(reply) => self.closing.push(reply),
                }
            }

            fn len(&self) -> usize {
                0 $(+ self.$lane.calls.len())*
            }

            async fn apply(&mut self, store: &mut Store) -> Result<(), sqlx::Error> {
                $(self.$lane.apply(store).await?;)*
                Ok(())
            }

            fn answer(&mut self) {
                $(self.$lane.answer();)*
            }

            fn refuse(&mut self, fault: &Fault) {
                $(self.$lane.refuse(fault);)*
            }

            /// One group for each call.
            fn single(&mut self) -> Vec<Group> {
                let mut singles = Vec::new();
                $(for call in self.$lane.calls.drain(..) {
                    let mut single = Group::default();
                    single.$lane.calls.push(call);
                    singles.push(single);
                })*
                singles
            }
        }
    };
}

// Marks come before the ends of runs, so that a run sees what was marked meanwhile; leases are freed before they are taken,
// messages sent before they are received.
lanes! {
    Begin begins: audit::Begin,
    Complete completes: audit::Complete,
    Want wants: ledger::Wants,
    Renew renews: ledger::Renew,
    Save saves: ledger::Save,
    Commit commits: ledger::End,
    Take takes: ledger::Grab,
    SetAside asides: ledger::SetAside,
    Bury buries: ledger::Bury,
    Unbury unburies: ledger::Unbury,
    Forget forgets: ledger::Forget,
    Note notes: notes::Write,
    Send sends: queue::Send,
    Acknowledge acknowledges: queue::Acknowledge,
    Extend extends: queue::Extend,
    Release releases: queue::Release,
    Receive receives: queue::Receive,
}

/// What the writer owns.
pub(super) struct Store {
    pub(super) connection: SqliteConnection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) audit_key: DerivedKey,
    pub(super) hidden_for: i64,
    /// As of the transaction under way; put back if that fails.
    pub(super) state: State,
    /// For deliveries that nobody takes.
    pub(super) back: Option<mpsc::WeakUnboundedSender<Op>>,
    anchors: Anchors,
}

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) head: Head,
    pub(super) messages: u64,
}

impl Store {
    pub(super) async fn new(
        mut connection: SqliteConnection,
        clock: Arc<dyn Clock>,
        options: &Options,
        audit_key: DerivedKey,
        path: &Path,
    ) -> Result<Self, Fault> {
        let storage = |error: sqlx::Error| fault::of(&error);
        // Proves that the file can be written, before anything is promised.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(storage)?;
        sqlx::query("UPDATE message SET hidden_until = NULL WHERE hidden_until IS NOT NULL")
            .execute(&mut connection)
            .await
            .map_err(storage)?;
        sqlx::query("COMMIT").execute(&mut connection).await.map_err(storage)?;
        let messages: i64 =
            sqlx::query_scalar("SELECT count(*) FROM message").fetch_one(&mut connection).await.map_err(storage)?;
        let head = audit::head(&mut connection).await.map_err(storage)?;
        let anchors = Anchors::open(path, audit_key.clone(), &head, &mut connection, clock.now()).await?;
        Ok(Self {
            connection,
            clock,
            audit_key,
            hidden_for: super::duration_micros(options.visibility),
            state: State { head, messages: messages.unsigned_abs() },
            back: None,
            anchors,
        })
    }

    async fn commit(&mut self, group: &mut Group) -> Result<(), sqlx::Error> {
        let before = self.state.clone();
        let result = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
            group.apply(self).await?;
            sqlx::query("COMMIT").execute(&mut self.connection).await
        }
        .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) => {
                self.state = before;
                // Some failures have ended the transaction already.
                let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
                Err(error)
            }
        }
    }
}

/// A handle to the writer task. The task ends when told to close, or when the last handle is gone.
#[derive(Clone)]
pub(super) struct Writer {
    calls: mpsc::UnboundedSender<Op>,
    arrivals: Arc<Notify>,
    messages: Arc<std::sync::atomic::AtomicU64>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer(..)")
    }
}

fn closed() -> Fault {
    Fault::new(Class::Fatal, Code::DatabaseUnavailable).on("the database is closed")
}

impl Writer {
    pub(super) fn start(mut store: Store, lock: File) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        store.back = Some(sender.downgrade());
        let writer = Self { calls: sender, arrivals: Arc::default(), messages: Arc::default() };
        writer.messages.store(store.state.messages, std::sync::atomic::Ordering::Release);
        let task =
            Task { store, calls, arrivals: writer.arrivals.clone(), messages: writer.messages.clone(), refusal: None };
        tokio::spawn(task.run(lock));
        writer
    }

    /// Done and on disk when it returns. The channel needs no bound: each caller waits for its own answer.
    pub(super) async fn call<O: Operation>(&self, operation: O) -> Result<O::Answer, Fault>
    where
        Op: From<Call<O>>,
    {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { operation, reply }.into()).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(super) async fn close(&self) -> Result<(), Fault> {
        let (reply, answer) = oneshot::channel();
        if self.calls.send(Op::Close(reply)).is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    /// Tells when messages may have become visible.
    pub(super) fn arrivals(&self) -> &Notify {
        &self.arrivals
    }

    /// All messages in the queue, received or not.
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// Does nobody's work later: for a delivery whose receiver is gone.
pub(super) fn hand_back<O: Operation>(back: &mpsc::WeakUnboundedSender<Op>, operation: O)
where
    Op: From<Call<O>>,
{
    if let Some(calls) = back.upgrade() {
        let _ = calls.send(Call { operation, reply: oneshot::channel().0 }.into());
    }
}

struct Task {
    store: Store,
    calls: mpsc::UnboundedReceiver<Op>,
    arrivals: Arc<Notify>,
    messages: Arc<std::sync::atomic::AtomicU64>,
    /// Storage failed; nothing is written any more.
    refusal: Option<Fault>,
}

impl Task {
    async fn run(mut self, lock: File) {
        let mut waiting = Vec::new();
        let mut closing = Vec::new();
        while closing.is_empty() {
            tokio::select! {
                taken = self.calls.recv_many(&mut waiting, GROUP) => {
                    if taken == 0 {
                        break;
                    }
                    let mut group = Group::default();
                    waiting.drain(..).for_each(|op| group.push(op));
                    self.work(&mut group).await;
                    closing = std::mem::take(&mut group.closing);
                }
                () = self.store.anchors.due() => self.anchor().await,
            }
            if self.store.anchors.pressing(&self.store.state.head) {
                self.anchor().await;
            }
        }
        // Whoever still waits learns that the database is closed.
        self.calls.close();
        while self.calls.try_recv().is_ok() {}
        let result = self.finish().await;
        drop(lock);
        for reply in closing {
            let _ = reply.send(result.clone());
        }
    }

    async fn work(&mut self, group: &mut Group) {
        if group.len() == 0 {
            return;
        }
        if let Some(fault) = &self.refusal {
            group.refuse(fault);
            return;
        }
        let Err(error) = self.store.commit(group).await else {
            self.answer(group);
            return;
        };
        let fault = fault::of(&error);
        if fault.class == Class::Fatal {
            self.stop(fault);
        } else if group.len() > 1 {
            for mut single in group.single() {
                Box::pin(self.work(&mut single)).await;
            }
            return;
        } else {
            group.refuse(&fault);
            return;
        }
        if let Some(fault) = &self.refusal {
            group.refuse(fault);
        }
    }

    fn stop(&mut self, fault: Fault) {
        tracing::error!(%fault, "the database cannot be written; nothing is written from now on");
        self.refusal = Some(fault);
    }

    fn answer(&mut self, group: &mut Group) {
        self.messages.store(self.store.state.messages, std::sync::atomic::Ordering::Release);
        self.store.anchors.note(&self.store.state.head);
        let arrived = !group.sends.calls.is_empty() || !group.releases.calls.is_empty();
        group.answer();
        if arrived {
            self.arrivals.notify_waiters();
        }
    }

    /// Without its anchor the audit log does not keep what it promises, so a failure stops everything.
    async fn anchor(&mut self) {
        if let Err(error) = self.store.anchors.write(&self.store.state.head, self.store.clock.now()).await {
            self.stop(fault::of_io(&error));
        }
    }

    async fn finish(mut self) -> Result<(), Fault> {
        if self.refusal.is_none() {
            self.anchor().await;
        }
        let Self { mut store, refusal, .. } = self;
        if let Some(fault) = refusal {
            let _ = store.connection.close().await;
            return Err(fault);
        }
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut store.connection)
            .await
            .map_err(|error| fault::of(&error))?;
        store.connection.close().await.map_err(|error| fault::of(&error))
    }
}
