package e2e

import "syscall"

// endWithParent makes the kernel end a process when the tests end in a way that runs
// no clean-up, such as a timeout of go test.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
