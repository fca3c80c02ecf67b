package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The product's module, seen from here.
const (
	product  = ".."
	examples = "../examples"
)

// TestMain runs the tests side by side on any machine: most of them only wait. Before
// that it builds what they run, which takes minutes the first time: a demo starts its
// story by the clock, and must not have to wait for the others.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	for name := range programs {
		path, err := build(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		built[name] = path
	}
	os.Exit(m.Run())
}

// programs are what the tests run, each with the folder of its module and its package.
var programs = map[string]struct{ module, pkg string }{
	"balance_exporter": {product, "."},
	"prometheus":       {"tools/prometheus", "github.com/prometheus/prometheus/cmd/prometheus"},
	"promtool":         {"tools/prometheus", "github.com/prometheus/prometheus/cmd/promtool"},
	"alertmanager":     {"tools/alertmanager", "github.com/prometheus/alertmanager/cmd/alertmanager"},
	"amtool":           {"tools/alertmanager", "github.com/prometheus/alertmanager/cmd/amtool"},
}

// built has the paths of the programs.
var built = map[string]string{}

// build returns the path of a program: in the folder that E2E_BIN names, or built and
// kept in the user's cache folder.
func build(name string) (string, error) {
	p := programs[name]
	if p.module != product { // that one must be what is tested
		path := filepath.Join(os.Getenv("E2E_BIN"), name)
		if _, err := os.Stat(path); err == nil && filepath.IsAbs(path) {
			return path, nil
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "balance_exporter-e2e", name)
	// Without the service discoveries, which no test needs and which are most of
	// Prometheus. The tag means nothing to the others.
	cmd := exec.Command("go", "build", "-buildvcs=false", "-tags=remove_all_sd", "-o", path, p.pkg)
	cmd.Dir = p.module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// output runs a program to its end and returns what it wrote to stdout and stderr.
func output(t *testing.T, stdin []byte, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, built[name], args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// process is a program that runs until the test ends.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of the end, once done is closed
	log  string
}

// start starts a program. At the end of the test, at the latest, it gets SIGTERM, and
// SIGKILL if it does not obey; its log is shown if the test has failed.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, done: make(chan struct{}), log: filepath.Join(t.TempDir(), name+".log")}
	file, err := os.Create(p.log)
	require.NoError(t, err)
	p.cmd = exec.Command(built[name], args...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = endWithParent()
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		_ = file.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.tail())
		}
	})
	return p
}

// stop ends the process as an init system would. It must obey, and in good order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // ended meanwhile if it fails
	}
	select {
	case <-p.done:
	case <-time.After(2 * time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%s did not end on SIGTERM", p.name)
	}
	if p.err != nil {
		t.Errorf("%s: %v", p.name, p.err)
	}
}

// kill is SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	p.err = nil // as intended
}

// ended returns an error if the process is no longer there.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %w\n%s", p.name, errors.Join(p.err, errEarly), p.tail())
	default:
		return nil
	}
}

var errEarly = errors.New("before the test did")

// listening matches the line that exporter-toolkit logs, in all three servers.
var listening = regexp.MustCompile(`msg="Listening on" .*address=(127\.0\.0\.1:\d+)`)

// listens waits until the process, which was started on port 0, listens, and returns its
// address.
func (p *process) listens(t *testing.T) (address string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		m := listening.FindSubmatch(text)
		if m == nil {
			return fmt.Errorf("%s does not listen", p.name)
		}
		address = string(m[1])
		return nil
	}, p)
	return address
}

// tail returns the last lines of the log.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-4000):]
}
