package state_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/go-kit/log"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

// smallDisk mounts a small file system.
func smallDisk(t *testing.T) disk {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a small file system, which needs root:", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	filler := filepath.Join(dir, "filler")
	return disk{
		dir: dir,
		fill: func(t *testing.T) {
			f, err := os.Create(filler)
			require.NoError(t, err)
			for err == nil {
				_, err = f.Write(make([]byte, os.Getpagesize()))
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.NoError(t, f.Close())
		},
		free: func(t *testing.T) { require.NoError(t, os.Remove(filler)) },
	}
}

func TestFullDiskWhileRunning(t *testing.T) {
	d := smallDisk(t)
	path := filepath.Join(d.dir, "state.db")
	s, logged, observed := open(t, path)
	testFullDisk(t, path, s, logged, observed, d)
}

func TestFullDiskAtStart(t *testing.T) {
	d := smallDisk(t)
	path := filepath.Join(d.dir, "state.db")
	d.fill(t)
	s, logged, observed := open(t, path)
	require.Equal(t, []string{lineUnwritten, lineUnwritten}, levels(t, logged))
	statetest.SetQuota(t, s, "a", coolDown)
	want := map[string]*snapshot.Snapshot{"k": statetest.Balance(1)}
	statetest.Publish(t, s, "a", want)
	require.Equal(t, coolDown, statetest.Quota(t, s, "a"))
	require.Equal(t, want, statetest.Snapshots(t, s, "a"))
	require.Equal(t, []string{"update: error", "claim", "publish: error", "update: error", "load"}, observed.take())
	require.Empty(t, quarantined(t, path))

	d.free(t)
	statetest.SetQuota(t, s, "b", quota.Account{Limited: 1})
	statetest.Publish(t, s, "b", want)
	require.Equal(t, []string{"update", "claim", "publish"}, observed.take())
	require.Equal(t, []string{lineUnwritten, lineUnwritten, lineRecovered, lineRecovered}, levels(t, logged))
	restarted, _, _ := open(t, afterKill(t, path))
	require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
	require.Equal(t, quota.Account{Limited: 1}, statetest.Quota(t, restarted, "b"))
	require.Equal(t, want, statetest.Snapshots(t, restarted, "a"))
	require.Equal(t, want, statetest.Snapshots(t, restarted, "b"))
	require.NoError(t, s.Close())
}

// TestFullDiskAtRestart checks that a full disk does not hide what the files hold.
func TestFullDiskAtRestart(t *testing.T) {
	d := smallDisk(t)
	path := filepath.Join(d.dir, "state.db")
	s, _, _ := open(t, path)
	statetest.SetQuota(t, s, "a", coolDown)
	want := map[string]*snapshot.Snapshot{"k": statetest.Balance(1)}
	statetest.Publish(t, s, "a", want)
	require.NoError(t, s.Close())
	d.fill(t)
	s, logged, _ := open(t, path)
	require.Equal(t, []string{lineUnwritten, lineUnwritten}, levels(t, logged))
	require.Equal(t, coolDown, statetest.Quota(t, s, "a"))
	require.Equal(t, want, statetest.Snapshots(t, s, "a"))
	d.free(t)
	statetest.SetQuota(t, s, "b", quota.Account{Limited: 1})
	restarted, _, _ := open(t, afterKill(t, path))
	require.Equal(t, coolDown, statetest.Quota(t, restarted, "a"))
	require.Equal(t, quota.Account{Limited: 1}, statetest.Quota(t, restarted, "b"))
	require.Equal(t, want, statetest.Snapshots(t, restarted, "a"))
	require.NoError(t, s.Close())
}

func TestNoPermission(t *testing.T) {
	const advice = ": give a path in an existing directory, with permission to write the file and the directory"
	for name, tt := range map[string]struct {
		fileMode, dirMode os.FileMode
		file, want        string
	}{
		"read-only file":                    {0o444, 0o777, "state.db", "disk I/O error (3850)"},
		"read-only quota file":              {0o444, 0o777, "state.db.quota", "disk I/O error (3850)"},
		"file of another user":              {0o600, 0o777, "state.db", "unable to open database file (14)"},
		"read-only directory":               {0o666, 0o555, "state.db", "attempt to write a readonly database (1544)"},
		"new file in a read-only directory": {0, 0o555, "state.db", "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			path := makeFiles(t)
			dir := filepath.Dir(path)
			require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
			if os.Geteuid() != 0 {
				t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
			}
			for _, file := range []string{path, path + ".quota"} {
				mode := os.FileMode(0o666)
				if filepath.Base(file) == tt.file {
					mode = tt.fileMode
				}
				if mode == 0 {
					require.NoError(t, os.Remove(file))
					continue
				}
				require.NoError(t, os.Chmod(file, mode))
			}
			require.NoError(t, os.Chmod(dir, tt.dirMode))
			var err error
			asNobody(t, func() {
				_, err = state.Open("sqlite:"+path, state.Options{Logger: log.NewLogfmtLogger(new(bytes.Buffer))})
			})
			require.ErrorContains(t, err, "state file "+filepath.Join(dir, tt.file)+": ")
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, advice)
			require.NotContains(t, err.Error(), "\n")
			require.Empty(t, quarantined(t, path))
		})
	}
}

// asNobody calls fn with the rights of a user who owns nothing. Root has all
// rights otherwise.
func asNobody(t *testing.T, fn func()) {
	if os.Geteuid() == 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		setFSUID := func(uid uintptr) {
			_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, uid, 0, 0) // of this thread
		}
		setFSUID(65534)
		defer setFSUID(0)
	}
	fn()
}

func TestLooseUmask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	was := syscall.Umask(0)
	defer syscall.Umask(was)
	s, _, _ := open(t, path)
	statetest.SetQuota(t, s, "a", coolDown)
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	requireMode(t, path)
}
