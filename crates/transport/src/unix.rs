//! Unix sockets within a host: a pair for a worker that inherits its end, a listener for clients, and descriptors that
//! travel with the bytes (`SCM_RIGHTS`).

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt,
};
use std::{
    fs, io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net,
        },
    },
    path::Path,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

/// What is asked of the kernel for a socket's buffers; it grants up to `net.core.wmem_max`.
const BUFFER_BYTES: usize = 1 << 20;
/// Descriptors that one message carries; the kernel's own limit is 253.
pub const DESCRIPTORS_MAX: usize = 64;
/// A socket's path, without the closing zero.
const PATH_BYTES_MAX: usize = 107;
/// Added to the path while the socket is not yet open to clients.
const NEW: &str = ".new";

/// A connected pair: this process's end, and the one for a child to inherit.
///
/// # Errors
/// The system's, when descriptors or memory have run out.
pub fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = net::UnixStream::pair()?;
    enlarge(&ours);
    enlarge(&theirs);
    Ok((adopt(ours.into())?, theirs.into()))
}

/// Takes a connected socket over, such as an inherited one.
///
/// # Errors
/// The descriptor is no socket, or there is no tokio runtime with I/O.
pub fn adopt(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = net::UnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    enlarge(&stream);
    UnixStream::from_std(stream)
}

/// Connects to an agent's socket.
///
/// # Errors
/// Nobody listens there, or it may not be opened.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    enlarge(&stream);
    Ok(stream)
}

/// Listens at `path`, for the owner and the group (0660). A socket left behind by an ended process is replaced.
///
/// # Errors
/// A living process listens there, or the path cannot be used.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(NEW);
    if fresh.len() > PATH_BYTES_MAX {
        let most = PATH_BYTES_MAX - NEW.len();
        let text = format!("{}: a socket's path has at most {most} bytes: choose a shorter one", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match net::UnixStream::connect(path) {
        Ok(_) => {
            let text = format!("{}: another agent listens there: stop it or choose another path", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if !fs::symlink_metadata(path)?.file_type().is_socket() => return Err(error),
        Err(_) => fs::remove_file(path)?,
    }
    // It gets its permissions before it gets its name, so that nobody slips in between.
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o660))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

fn enlarge(socket: &impl AsFd) {
    // Refused or cut down by the system's limits, the link is slower and as correct.
    let _ = sockopt::set_socket_send_buffer_size(socket, BUFFER_BYTES);
    let _ = sockopt::set_socket_recv_buffer_size(socket, BUFFER_BYTES);
}

/// Writes all of `bytes`; the descriptors travel with the first of them.
///
/// # Errors
/// The stream's, or more than [`DESCRIPTORS_MAX`] descriptors.
pub async fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 64 descriptors in one message"));
    }
    let (mut rest, mut descriptors) = (bytes, descriptors);
    while !rest.is_empty() {
        let sent = stream.async_io(Interest::WRITABLE, || send_now(stream.as_fd(), rest, descriptors)).await?;
        rest = &rest[sent..];
        descriptors = &[];
    }
    Ok(())
}

fn send_now(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Fills `buffer` with exactly the next bytes and collects the descriptors that came with them.
///
/// # Errors
/// The stream's, or its end.
pub async fn receive(stream: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        let bytes = stream.async_io(Interest::READABLE, || receive_now(stream.as_fd(), rest, descriptors)).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += bytes;
    }
    Ok(())
}

fn receive_now(socket: BorrowedFd<'_>, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = part {
            descriptors.extend(passed);
        }
    }
    Ok(message.bytes)
}
