package disk

import "golang.org/x/sys/unix"

// peerUser returns the user of the process at the other end of a Unix socket.
func peerUser(fd int) (uid int, known bool, err error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, false, err
	}
	return int(u.Uid), true, nil
}
