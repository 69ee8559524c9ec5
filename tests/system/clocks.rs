//! What is said when clocks do not agree.

use std::time::Duration;

use jiff::SignedDuration;

use crate::installation::{Installation, assert_said};

/// Both servers say that it is three hours later than this machine says: it is this machine's clock that is wrong. (To the program that is the same as
/// a PC that is three hours behind; the clock of the machine that tests run on is left alone.)
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named_and_so_is_a_server_that_differs() {
    let installation = Installation::ready(2, 78, "").await;
    installation.chart.control().skew(SignedDuration::from_hours(3));
    installation.filemaker().clock().advance(Duration::from_secs(3 * 3600));
    assert_said(&installation.run(&["doctor"]).await, "The clock of this PC is 3 h behind.");
    let relay = installation.start();
    installation.status("The clock of this PC is 3 h behind. Nothing is lost; set it right.").await;
    // One that agrees with this machine: then it is the other one.
    installation.chart.control().skew(SignedDuration::ZERO);
    installation.status("The clock of FileMaker").await;
    let status = installation.run(&["status"]).await;
    assert_said(&status, "is 3 h ahead of this PC's");
    assert_said(&status, "Up to date");
    installation.stop(relay).await;
}
