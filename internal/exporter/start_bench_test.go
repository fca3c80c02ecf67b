package exporter

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkStart measures the demo from the start of the binary to its first
// answer, with balances and prices. The fleet is left out: its first scrape waits
// for as many of its subscribers as the deadline allows.
func BenchmarkStart(b *testing.B) {
	binary := build(b)
	for b.Loop() {
		p := &process{address: freeAddress(b)}
		p.cmd = exec.CommandContext(b.Context(), binary, "--demo", "--web.listen-address="+p.address, "--log.level=error")
		require.NoError(b, p.cmd.Start())
		answer := ""
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(answer, "\nsms_price{"); time.Sleep(time.Millisecond) {
			require.True(b, time.Now().Before(deadline), "no prices within ten seconds: %s", answer)
			answer = p.scrape(b.Context(), "?collect[]=balances&collect[]=prices")
		}
		require.Contains(b, answer, "\naccount_balance{")
		require.NoError(b, p.cmd.Process.Signal(os.Interrupt))
		require.NoError(b, p.cmd.Wait())
	}
}
