//! As much of the X protocol as it takes to ask a window to close, which is what its title bar does. There is no window manager on the
//! tests' displays.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// WM_DELETE_WINDOW of the ICCCM.
pub(crate) async fn ask_to_close(display: &str, window: u32) -> io::Result<()> {
    let mut server = UnixStream::connect(format!("/tmp/.X11-unix/X{}", display.trim_start_matches(':'))).await?;
    // Little-endian, version 11, without a word of who we are.
    server.write_all(&[b'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await?;
    let mut head = [0; 8];
    server.read_exact(&mut head).await?;
    assert_eq!(head[0], 1, "the display lets us in");
    let mut rest = vec![0; usize::from(u16::from_le_bytes([head[6], head[7]])) * 4];
    server.read_exact(&mut rest).await?;

    let protocols = atom(&mut server, "WM_PROTOCOLS").await?;
    let delete = atom(&mut server, "WM_DELETE_WINDOW").await?;
    // SendEvent with a ClientMessage of five numbers: the protocol, and no time.
    let mut request = vec![25, 0, 11, 0];
    request.extend(window.to_le_bytes());
    request.extend(0_u32.to_le_bytes());
    request.extend([33, 32, 0, 0]);
    for number in [window, protocols, delete, 0, 0, 0, 0] {
        request.extend(number.to_le_bytes());
    }
    server.write_all(&request).await?;
    // Whatever is answered, the display has read that far.
    atom(&mut server, "WM_PROTOCOLS").await.map(drop)
}

/// InternAtom
async fn atom(server: &mut UnixStream, name: &str) -> io::Result<u32> {
    let words = 2 + name.len().div_ceil(4);
    let mut request = vec![16, 0];
    request.extend(u16::try_from(words).unwrap().to_le_bytes());
    request.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    request.extend([0, 0]);
    request.extend(name.as_bytes());
    request.resize(words * 4, 0);
    server.write_all(&request).await?;
    let mut answer = [0; 32];
    server.read_exact(&mut answer).await?;
    assert_eq!(answer[0], 1, "the display answers: {answer:?}");
    Ok(u32::from_le_bytes([answer[8], answer[9], answer[10], answer[11]]))
}
