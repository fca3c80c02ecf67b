//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package state

import "os"

// lockFile leaves the lock to bbolt. Where there is no flock, a file that is
// taken for damaged because another process is writing it can usually not be
// renamed either.
func lockFile(*os.File) error { return nil }
