//! What AWS bills, and what that costs. Prices are AWS's list prices on demand in us-east-1, beyond the free tier, as published since
//! November 2024: <https://aws.amazon.com/dynamodb/pricing/on-demand/> and <https://aws.amazon.com/sqs/pricing/>. Other regions cost
//! up to some two thirds more; storage, recovery and KMS come on top.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Where and when these prices hold.
pub const PRICES: &str = "list prices of us-east-1 since November 2024";
/// Dollars for a million of each.
pub const SQS_STANDARD: f64 = 0.40;
pub const SQS_FIFO: f64 = 0.50;
pub const WRITE_UNIT: f64 = 0.625;
pub const READ_UNIT: f64 = 0.125;

/// A loop that takes one message at a time makes seven calls for each: receive, lock, read the chart, sign in to FileMaker, write there,
/// unlock, delete. Three of SQS (the sending counts too) and two writes to DynamoDB are billed.
pub const SEVEN_CALLS: f64 = 3.0 * SQS_STANDARD + 2.0 * WRITE_UNIT;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Billed {
    pub sqs_requests: u64,
    /// By the size of the item, and of its entries in indexes.
    pub write_units: f64,
    pub read_units: f64,
    /// Not for an event: a receive that came back empty, a mark of how far a poll has come.
    #[serde(skip)]
    pub(super) looking: bool,
}

impl AddAssign for Billed {
    fn add_assign(&mut self, more: Self) {
        self.sqs_requests += more.sqs_requests;
        self.write_units += more.write_units;
        self.read_units += more.read_units;
    }
}

impl Billed {
    fn dollars(&self, fifo: bool) -> f64 {
        let sqs = if fifo { SQS_FIFO } else { SQS_STANDARD };
        (self.sqs_requests as f64 * sqs + self.write_units * WRITE_UNIT + self.read_units * READ_UNIT) / 1e6
    }
}

/// What was billed, apart for what is done for events and what is asked whether there are any or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Sending, receiving and deleting messages, taking, saving and committing records.
    pub for_events: Billed,
    /// Receives that came back empty, looks for what is due and for leases, figures, lists, how far polls have come, signs of life.
    pub for_looking: Billed,
}

impl Spent {
    pub(super) fn add(&mut self, operation: &str, billed: Billed) {
        let looking = billed.looking
            || !matches!(
                operation,
                "sqs:SendMessage"
                    | "sqs:ReceiveMessage"
                    | "sqs:DeleteMessage"
                    | "sqs:ChangeMessageVisibility"
                    | "dynamodb:UpdateItem"
                    | "dynamodb:DeleteItem"
            );
        if looking { self.for_looking += billed } else { self.for_events += billed }
    }

    /// In words: for each event, its price beside that of the loop, and what the looking cost.
    pub fn lines(&self, events: u64, fifo: bool) -> Vec<String> {
        let Billed { sqs_requests, write_units, read_units, .. } = self.for_events;
        let mut lines = Vec::new();
        if events > 0 {
            let each = |count: f64| count / events as f64;
            lines.push(format!(
                "AWS for each of {events} events here: {:.2} SQS requests, {:.2} write units of DynamoDB{}: ${:.2} for a million",
                each(sqs_requests as f64),
                each(write_units),
                if read_units > 0.0 { format!(", {:.2} read units", each(read_units)) } else { String::new() },
                each(self.for_events.dollars(fifo) * 1e6),
            ));
        }
        let looking = &self.for_looking;
        lines.push(format!(
            "AWS for looking, since the start: {} SQS requests, {:.0} read units, {:.0} write units of DynamoDB: ${:.4}",
            looking.sqs_requests,
            looking.read_units,
            looking.write_units,
            looking.dollars(fifo)
        ));
        lines.push(format!(
            "({PRICES}; one message at a time, a loop of seven calls, is ${SEVEN_CALLS:.2} for a million)"
        ));
        lines
    }
}

/// What an event costs where no two stations meet at one record and batches are full: without and with a write to FileMaker.
pub fn at_best(fifo: bool) -> [f64; 2] {
    let sqs = if fifo { SQS_FIFO } else { SQS_STANDARD };
    [2.0, 3.0].map(|writes| 0.3 * sqs + writes * WRITE_UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_price_beside_the_loops() {
        let mut spent = Spent::default();
        for _ in 0..100 {
            spent.add("dynamodb:UpdateItem", Billed { write_units: 2.0, ..Billed::default() });
        }
        for operation in ["sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"] {
            spent.add(operation, Billed { sqs_requests: 10, ..Billed::default() });
        }
        spent.add("sqs:ReceiveMessage", Billed { sqs_requests: 1, looking: true, ..Billed::default() });
        let lines = spent.lines(100, false);
        assert!(lines[0].contains("0.30 SQS requests, 2.00 write units of DynamoDB: $1.37 for a million"), "{lines:?}");
        assert!(lines[1].contains("1 SQS requests, 0 read units, 0 write units"), "{lines:?}");
        assert!(lines[2].contains("$2.45"), "{lines:?}");
        assert_eq!(at_best(false).map(|price| format!("{price:.2}")), ["1.37", "2.00"]);
    }
}
