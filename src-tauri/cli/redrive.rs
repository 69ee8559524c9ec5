//! `chart-relay redrive`: everything that is dead, tried again; first shown, then done.

use std::process::ExitCode;

use clap::Args;
use engine::error::Code;
use futures::FutureExt;

use super::{complain, place::Place, relay::PATIENCE};
use crate::{control::Answer, redrive::Plan, socket, view::redrive, view::words};

#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Only what died for this reason, as the preview names it
    #[arg(long, value_parser = code, value_name = "CODE")]
    reason: Option<Code>,
    /// Do it; else it is only shown
    #[arg(long)]
    yes: bool,
}

fn code(text: &str) -> Result<Code, String> {
    Code::parse(text).ok_or_else(|| "write it as the preview does, such as value-refused".to_owned())
}

pub async fn run(args: RedriveArgs, place: &Place) -> ExitCode {
    let relay = |request| async move { socket::call(&place.data, &request, PATIENCE).await }.boxed();
    let plan = match Plan::ask(relay, args.reason).await {
        Ok(Ok(plan)) => plan,
        Ok(Err(answer)) => return refused(&answer),
        Err(error) => return complain(&error),
    };
    show(&plan);
    if plan.items() == 0 {
        return ExitCode::SUCCESS;
    }
    if !args.yes {
        println!("Nothing was done. `--yes` does it.");
        return ExitCode::SUCCESS;
    }
    match plan.carry_out(relay).await {
        Ok(Ok(())) => {
            println!("Done: {} will be tried again.", words::items(plan.items() as u64));
            ExitCode::SUCCESS
        }
        Ok(Err(answer)) => refused(&answer),
        Err(error) => complain(&error),
    }
}

fn refused(answer: &Answer) -> ExitCode {
    match answer {
        Answer::Refused(why) => complain(why),
        _ => complain(&"the running relay is of another version; start it again"),
    }
}

fn show(plan: &Plan) {
    match plan.items() {
        0 => println!("Nothing is dead that could be tried again."),
        count => println!("{} would be tried again:", words::items(count as u64)),
    }
    for (code, count) in redrive::reasons(plan) {
        println!("{count:>7}  {code}: {}", words::sentence(code));
    }
    if let Some(oldest) = plan.oldest {
        println!("The oldest is dead since {}.", oldest.strftime("%Y-%m-%d %H:%M:%SZ"));
    }
    for key in redrive::named(plan) {
        println!("  {key}");
    }
    for id in plan.letters.iter().take(redrive::NAMED) {
        println!("  message {id}");
    }
    let named = plan.keys.len().min(redrive::NAMED) + plan.letters.len().min(redrive::NAMED);
    if plan.items() > named {
        println!("  and {} more", plan.items() - named);
    }
    if plan.stay > 0 {
        println!("{} cannot be read again and stay; `drop-letters` throws them away.", words::messages(plan.stay));
    }
}
