package state_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/servertest"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/internal/state"
	"github.com/balance-exporter/balance_exporter/internal/state/statetest"
)

// patience is how long a test waits for what must happen, on a busy machine too.
const patience = 2 * time.Minute

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) logger() log.Logger { return log.NewLogfmtLogger(l) }

// take returns the lines since the last call, without what differs between runs.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	l.b.Reset()
	for pattern, by := range map[string]string{
		`127\.0\.0\.1:\d+`: "HOST", `HOST->HOST`: "HOST", `damaged-\d{8}T\d{6}\.\d{6}Z`: "damaged-TIME",
		`component=state `: "", ` err=.*`: " err=...",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, by)
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

const (
	lineDown = `level=error msg="state cannot be reached; nothing is sent until it can, and the last values are served" address=HOST err=...`
	lineUp   = `level=info msg="state can be reached again" address=HOST`
)

// count counts in the record of account a.
func count(s state.Store) (quota.Account, error) {
	return s.Update(context.Background(), "a", func(a quota.Account, _ time.Time) quota.Account {
		a.Limited++
		return a
	})
}

// requireRecovery waits until updates work.
func requireRecovery(t *testing.T, s state.Store) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := count(s)
		return err == nil
	}, patience, 5*time.Millisecond)
}

// requireOutage waits until updates fail, and checks that they then fail at once.
func requireOutage(t *testing.T, s state.Store, text string) {
	t.Helper()
	var err error
	require.Eventually(t, func() bool {
		_, err = count(s)
		return err != nil
	}, patience, 5*time.Millisecond)
	require.ErrorContains(t, err, text)
	start := time.Now()
	for range 100 {
		_, err = count(s)
		require.Error(t, err)
		_, err = s.Claim(t.Context(), "a", false, []state.Source{{Key: "k"}})
		require.Error(t, err)
	}
	assert.Less(t, time.Since(start), 20*time.Second, "200 calls, none of which waits for the server")
}

func TestRedisIsDownAtStart(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	server.Kill()
	var logged lines
	s := server.open(t, state.Options{Logger: logged.logger()})
	require.ErrorContains(t, s.Ready(t.Context()), "connection refused")
	require.Equal(t, []string{lineDown}, logged.take())
	requireOutage(t, s, "connection refused")
	server.Start(t)
	require.Eventually(t, func() bool { return s.Ready(t.Context()) == nil }, patience, 5*time.Millisecond)
	requireRecovery(t, s)
	require.Equal(t, []string{lineUp}, logged.take())
}

// A server that is killed and starts empty has lost what was spent.
func TestRedisRestartsEmpty(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	var logged lines
	observed := &observer{}
	s := server.open(t, state.Options{Logger: logged.logger(), Observer: observed})
	statetest.SetQuota(t, s, "a", quota.Account{FullAt: statetest.Start, Limited: 3})
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	server.Kill()
	requireOutage(t, s, "")
	require.NoError(t, s.Ready(t.Context()), "it was reached")
	require.Contains(t, observed.take(), "update: error")
	server.Start(t)
	requireRecovery(t, s)
	record := statetest.Quota(t, s, "a")
	require.Equal(t, quota.Lost(quota.Account{Limited: record.Limited}), record)
	require.Less(t, record.Limited, 3, "it begins anew")
	require.Empty(t, statetest.Snapshots(t, s, "a"))
	require.Equal(t, []string{lineDown, lineUp}, logged.take())
}

// A restart from a file may have lost the last updates: the bucket is empty, the block
// stays.
func TestRedisRestartsFromAFile(t *testing.T) {
	t.Parallel()
	server := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := server.open(t, state.Options{})
	want := quota.Account{FullAt: statetest.Start, BlockedUntil: statetest.Start.Add(time.Hour), Cause: quota.CauseRateLimited, Limited: 3}
	statetest.SetQuota(t, s, "a", want)
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	server.Kill()
	server.Start(t)
	require.Eventually(t, func() bool { return s.Load(t.Context(), "a", nil, func(string, *snapshot.Snapshot, uint64) {}) == nil }, patience, 5*time.Millisecond)
	require.Equal(t, quota.Lost(want), statetest.Quota(t, s, "a"))
	require.Equal(t, map[string]*snapshot.Snapshot{"k": statetest.Balance(1)}, statetest.Snapshots(t, s, "a"))
}

// A server that is frozen for five seconds loses nothing, not even a claim.
func TestRedisFreezes(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	var logged lines
	s := server.open(t, state.Options{Logger: logged.logger()})
	statetest.SetQuota(t, s, "a", quota.Account{FullAt: statetest.Start})
	claims, err := s.Claim(t.Context(), "a", false, []state.Source{{Key: "k"}})
	require.NoError(t, err)
	server.Signal(t, syscall.SIGSTOP)
	thaw := sync.OnceFunc(func() { server.Signal(t, syscall.SIGCONT) })
	defer thaw()
	time.AfterFunc(5*time.Second, thaw)
	requireOutage(t, s, "no answer within 2s")
	accepted, err := s.Publish(t.Context(), "a", []state.Outcome{{Key: "k", Token: claims[0].Token, Snapshot: statetest.Balance(1)}})
	require.Error(t, err)
	require.Equal(t, []bool{true}, accepted, "it is served here, and stored later")
	requireRecovery(t, s)
	require.Equal(t, statetest.Start, statetest.Quota(t, s, "a").FullAt, "the record is not lost")
	require.Eventually(t, func() bool { return len(statetest.Snapshots(t, s, "a")) == 1 }, patience, 5*time.Millisecond)
	require.Equal(t, []string{lineDown, lineUp}, logged.take())
}

func TestRedisIsFlushed(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := server.open(t, state.Options{})
	other := server.open(t, state.Options{})
	statetest.SetQuota(t, s, "a", quota.Account{FullAt: statetest.Start, BlockedUntil: statetest.Start})
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"old": statetest.Balance(1)})
	claims, err := s.Claim(t.Context(), "a", false, []state.Source{{Key: "k"}})
	require.NoError(t, err)
	lost := func(s state.Store) bool {
		lost, err := s.Newer(t.Context(), "a", nil, nil)
		require.NoError(t, err)
		return lost
	}
	require.False(t, lost(s))
	require.False(t, lost(other))
	require.NoError(t, server.FlushAll(t.Context()).Err())
	require.True(t, lost(s))
	require.True(t, lost(other))
	require.False(t, lost(s))
	version := uint64(time.Now().UnixMicro())
	accepted, err := other.Publish(t.Context(), "a", []state.Outcome{{Key: "old", Token: version, Snapshot: statetest.Balance(1), Again: true}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, accepted)
	accepted, err = s.Publish(t.Context(), "a", []state.Outcome{{Key: "old", Token: version - 1, Snapshot: statetest.Balance(9), Again: true}})
	require.NoError(t, err)
	require.Equal(t, []bool{false}, accepted, "there is a newer one")
	require.Equal(t, quota.Lost(quota.Account{}), statetest.Quota(t, s, "a"))
	require.Equal(t, quota.Lost(quota.Account{}), statetest.Quota(t, other, "a"))
	accepted, err = s.Publish(t.Context(), "a", []state.Outcome{{Key: "k", Token: claims[0].Token, Snapshot: statetest.Balance(2)}})
	require.NoError(t, err)
	require.Equal(t, []bool{true}, accepted, "no other process has claimed it since")
	require.Equal(t, map[string]*snapshot.Snapshot{"k": statetest.Balance(2), "old": statetest.Balance(1)}, statetest.Snapshots(t, other, "a"))
}

// The password is read again for each connection, so that it can be changed.
func TestRedisPassword(t *testing.T) {
	t.Parallel()
	server := startRedis(t, "--requirepass", "right-password")
	require.ErrorContains(t, server.open(t, state.Options{}).Ready(t.Context()), "NOAUTH Authentication required. (the server wants a password: give --state.password-file)")
	path := writeSecret(t, "wrong-password")
	password := secret.File(path)
	var logged lines
	s := server.open(t, state.Options{Password: password, Logger: logged.logger()})
	require.ErrorContains(t, s.Ready(t.Context()), "WRONGPASS invalid username-password pair or user is disabled. (check the user in --state.url and --state.password-file)")
	require.NotContains(t, logged.b.String(), "wrong-password")
	require.NoError(t, os.WriteFile(path, []byte("right-password\n"), 0o600))
	requireRecovery(t, s)
	require.NoError(t, server.Do(t.Context(), "AUTH", "right-password").Err())
	named := openURL(t, "redis://user@"+server.Address, state.Options{})
	require.ErrorContains(t, named.Ready(t.Context()), "the user in --state.url needs --state.password-file")
}

// documentedACL is the rule of docs/high-availability.md.
func documentedACL(t *testing.T) []any {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "high-availability.md"))
	require.NoError(t, err)
	rule := regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindString(string(text))
	require.NotEmpty(t, rule)
	var args []any
	for _, word := range strings.Fields(rule) {
		args = append(args, word)
	}
	return args
}

// The user of the documentation can do everything, and lacks nothing that it has.
func TestRedisPermissions(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	rule := documentedACL(t)
	require.NoError(t, server.Do(t.Context(), rule...).Err())
	user := fmt.Sprint(rule[2])
	password := ""
	for _, word := range rule {
		if p, ok := strings.CutPrefix(fmt.Sprint(word), ">"); ok {
			password = p
		}
	}
	open := func(logger log.Logger) state.Store {
		return openURL(t, "redis://"+user+"@"+server.Address+"/0", state.Options{Password: secret.Inline(password), Logger: logger})
	}
	s := open(nil)
	requireRecovery(t, s)
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	require.Len(t, statetest.Snapshots(t, s, "a"), 1)
	require.NoError(t, s.Close())
	for _, word := range rule[3:] {
		command, ok := strings.CutPrefix(fmt.Sprint(word), "+")
		// SELECT is for another database than 0.
		if !ok || command == "select" {
			continue
		}
		require.NoError(t, server.ScriptFlush(t.Context()).Err())
		require.NoError(t, server.Do(t.Context(), "ACL", "SETUSER", user, "-"+command).Err())
		var logged lines
		s := open(logged.logger())
		err := s.Ready(t.Context())
		require.Error(t, err, "without %s", command)
		require.ErrorContains(t, err, "docs/high-availability.md lists the commands", "without %s", command)
		require.NoError(t, server.Do(t.Context(), "ACL", "SETUSER", user, "+"+command).Err())
		requireRecovery(t, s)
		require.NoError(t, s.Close())
	}
}

func TestRedisIsFull(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	var logged lines
	s := server.open(t, state.Options{Logger: logged.logger()})
	claims, err := s.Claim(t.Context(), "a", false, []state.Source{{Key: "k"}})
	require.NoError(t, err)
	require.NoError(t, server.ConfigSet(t.Context(), "maxmemory", "1").Err())
	requireOutage(t, s, "raise it; docs/high-availability.md has the sizes")
	_, err = s.Publish(t.Context(), "a", []state.Outcome{{Key: "k", Token: claims[0].Token, Snapshot: statetest.Balance(1)}})
	require.Error(t, err)
	require.NoError(t, server.ConfigSet(t.Context(), "maxmemory", "0").Err())
	requireRecovery(t, s)
	require.Eventually(t, func() bool { return len(statetest.Snapshots(t, s, "a")) == 1 }, patience, 5*time.Millisecond)
	require.Equal(t, []string{lineDown, lineUp}, logged.take())
}

func TestRedisMayEvict(t *testing.T) {
	t.Parallel()
	server := startRedis(t, "--maxmemory-policy", "allkeys-lru")
	var logged lines
	requireRecovery(t, server.open(t, state.Options{Logger: logged.logger()}))
	require.Equal(t, []string{`level=warn msg="the server may evict keys, which loses quota and values; set maxmemory-policy noeviction" address=HOST maxmemory_policy=allkeys-lru`}, logged.take())
}

func TestRedisKeysOfAWrongType(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	var logged lines
	s := server.open(t, state.Options{Logger: logged.logger()})
	for _, kind := range []string{"quota", "snapshots", "leases"} {
		require.NoError(t, server.LPush(t.Context(), "balance_exporter:"+kind+":a", "x").Err())
	}
	require.Equal(t, quota.Lost(quota.Account{}), statetest.Quota(t, s, "a"))
	require.Empty(t, statetest.Snapshots(t, s, "a"))
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	require.Len(t, statetest.Snapshots(t, s, "a"), 1)
	line := func(key, want string) string {
		return `level=error msg="a key cannot be used; it is renamed and a new one is created" key=balance_exporter:` + key + `:a renamed_to=balance_exporter:` + key + `:a:damaged-TIME err=...`
	}
	require.Equal(t, []string{line("quota", "string"), line("snapshots", "hash"), line("leases", "hash")}, logged.take())
	for _, kind := range []string{"quota", "snapshots", "leases"} {
		aside, err := server.Keys(t.Context(), "balance_exporter:"+kind+":a:damaged-*").Result()
		require.NoError(t, err)
		require.Len(t, aside, 1, kind)
	}
}

// Records of a newer version, and damaged ones, are moved aside.
func TestRedisRecordsOfANewerVersion(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	var logged lines
	s := server.open(t, state.Options{Logger: logged.logger()})
	statetest.SetQuota(t, s, "a", quota.Account{FullAt: statetest.Start})
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{
		"newer": statetest.Balance(1), "claimed": statetest.Balance(2), "short": statetest.Balance(3), "good": statetest.Balance(4),
	})
	const hash, key = "balance_exporter:snapshots:a", "balance_exporter:quota:a"
	changed := make(map[string]string)
	for _, field := range []string{"newer", "claimed"} {
		record, err := server.HGet(t.Context(), hash, field).Bytes()
		require.NoError(t, err)
		record[16] = state.FormatVersion + 1
		changed[field] = string(record)
		require.NoError(t, server.HSet(t.Context(), hash, field, record).Err())
	}
	changed["short"] = "123"
	require.NoError(t, server.HSet(t.Context(), hash, "short", "123").Err())
	record, err := server.Get(t.Context(), key).Bytes()
	require.NoError(t, err)
	record[40] = state.FormatVersion + 1
	require.NoError(t, server.Set(t.Context(), key, record, 0).Err())

	require.Equal(t, quota.Lost(quota.Account{}), statetest.Quota(t, s, "a"))
	claims, err := s.Claim(t.Context(), "a", false, []state.Source{{Key: "claimed"}})
	require.NoError(t, err)
	require.Equal(t, state.Held, claims[0].Result)
	claims, err = s.Claim(t.Context(), "a", false, []state.Source{{Key: "claimed"}})
	require.NoError(t, err)
	require.Equal(t, state.Granted, claims[0].Result, "as if it had never been read")
	require.Equal(t, map[string]*snapshot.Snapshot{"good": statetest.Balance(4)}, statetest.Snapshots(t, s, "a"))
	aside, err := server.HGetAll(t.Context(), hash+":damaged").Result()
	require.NoError(t, err)
	require.Equal(t, changed, aside)
	require.Len(t, logged.take(), 4, "each is reported")
}

// A demoted master takes no writes.
func TestRedisIsAReplica(t *testing.T) {
	t.Parallel()
	server, master := startRedis(t), startRedis(t)
	s := server.open(t, state.Options{})
	requireRecovery(t, s)
	host, port, _ := net.SplitHostPort(master.Address)
	require.NoError(t, server.Do(t.Context(), "REPLICAOF", host, port).Err())
	requireOutage(t, s, "")
	require.Eventually(t, func() bool {
		_, err := count(s)
		return err != nil && strings.Contains(err.Error(), "give the address of the master")
	}, patience, 5*time.Millisecond)
	require.NoError(t, server.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	requireRecovery(t, s)
}

// proxy passes connections on to a server. delay, drop and its methods disturb them.
type proxy struct {
	address string
	mu      sync.Mutex
	delay   time.Duration
	drop    bool // what arrives disappears
	conns   []*net.TCPConn
}

func startProxy(t *testing.T, to string) *proxy {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{address: listener.Addr().String()}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in.(*net.TCPConn), out.(*net.TCPConn))
			p.mu.Unlock()
			work.Go(func() { p.copy(in, out) })
			work.Go(func() { p.copy(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.each(func(c *net.TCPConn) { _ = c.Close() })
		work.Wait()
	})
	return p
}

func (p *proxy) copy(from, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		delay, drop := p.delay, p.drop
		p.mu.Unlock()
		time.Sleep(delay)
		if !drop {
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

func (p *proxy) each(f func(*net.TCPConn)) {
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

func (p *proxy) set(delay time.Duration, drop bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.drop = delay, drop
}

func TestRedisBehindABadNetwork(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	p := startProxy(t, server.Address)
	var logged lines
	s := openURL(t, "redis://"+p.address, state.Options{Logger: logged.logger()})
	requireRecovery(t, s)

	p.set(20*time.Millisecond, false)
	_, err := count(s)
	require.NoError(t, err, "slow, but in time")

	p.set(0, true)
	requireOutage(t, s, "no answer within 2s")
	p.set(0, false)
	requireRecovery(t, s)
	require.Equal(t, []string{lineDown, lineUp}, logged.take())

	p.set(5*time.Second, false)
	requireOutage(t, s, "no answer within 2s")
	p.set(0, false)
	requireRecovery(t, s)

	for name, f := range map[string]func(*net.TCPConn){
		"half closed": func(c *net.TCPConn) { _ = c.CloseWrite() },
		"reset":       func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		t.Log(name)
		p.each(f)
		requireRecovery(t, s)
	}
}

// The lease of a process that has died ends, and another process goes on.
func TestRedisLeaseEnds(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	const life = 400 * time.Millisecond
	open := func() state.Store {
		s := server.open(t, state.Options{})
		state.SetLeaseLife(s, life)
		return s
	}
	for _, whole := range []bool{false, true} {
		one, other := open(), open()
		key := []state.Source{{Key: fmt.Sprint(whole)}}
		claims, err := one.Claim(t.Context(), "a", whole, key)
		require.NoError(t, err)
		start := time.Now()
		for time.Since(start) < 2*life { // it is renewed
			got, err := other.Claim(t.Context(), "a", whole, key)
			require.NoError(t, err)
			require.Equal(t, state.Held, got[0].Result)
			time.Sleep(life / 10)
		}
		select {
		case <-claims[0].Lost:
			require.Fail(t, "the claim is lost")
		default:
		}
		state.Die(one)
		require.Eventually(t, func() bool {
			claims, err := other.Claim(t.Context(), "a", whole, key)
			return err == nil && claims[0].Result == state.Granted
		}, patience, life/10)
		require.NoError(t, other.Close())
	}
}

// A claim is lost when it cannot be renewed in time, or another process has it. Its
// outcome is dropped.
func TestRedisLeaseIsLost(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	const life = 400 * time.Millisecond
	for _, whole := range []bool{false, true} {
		t.Run(fmt.Sprintf("whole account: %t", whole), func(t *testing.T) {
			observed := &observer{}
			one := server.open(t, state.Options{Observer: observed, Prefix: fmt.Sprint(whole)})
			other := server.open(t, state.Options{Prefix: fmt.Sprint(whole)})
			state.SetLeaseLife(one, life)
			claims, err := one.Claim(t.Context(), "a", whole, []state.Source{{Key: "k"}})
			require.NoError(t, err)
			server.Signal(t, syscall.SIGSTOP)
			defer func() { server.Signal(t, syscall.SIGCONT) }()
			select {
			case <-claims[0].Lost:
			case <-time.After(patience):
				require.Fail(t, "the claim is not lost")
			}
			server.Signal(t, syscall.SIGCONT)
			requireRecovery(t, one)
			requireRecovery(t, other)
			accepted, err := one.Publish(t.Context(), "a", []state.Outcome{{Key: "k", Token: claims[0].Token, Snapshot: statetest.Balance(1)}})
			require.NoError(t, err)
			require.Equal(t, []bool{false}, accepted)
			require.Equal(t, []string{"granted", "lost"}, observed.takeClaims())
			require.Eventually(t, func() bool {
				claims, err := other.Claim(t.Context(), "a", whole, []state.Source{{Key: "k"}})
				return err == nil && claims[0].Result == state.Granted
			}, patience, 10*time.Millisecond)
		})
	}
}

// TestRedisTLS reaches a server by its own CA. A process reads SSL_CERT_FILE once, so each
// case is a process.
func TestRedisTLS(t *testing.T) {
	example := httptest.NewUnstartedServer(nil)
	example.StartTLS() // for its certificate, which is its own CA
	example.Close()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(example.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	certificate := write("certificate.pem", "CERTIFICATE", example.Certificate().Raw)
	key := write("key.pem", "PRIVATE KEY", der)
	another := write("another.pem", "CERTIFICATE", nil)

	_, port, err := net.SplitHostPort(servertest.Address(t))
	require.NoError(t, err)
	startRedis(t, "--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
	for _, tt := range []struct{ host, ca, want string }{
		{"127.0.0.1", certificate, "<nil>"},
		{"127.0.0.1", another, "certificate signed by unknown authority"},
		{"localhost", certificate, "certificate is valid for example.com, *.example.com, not localhost"},
	} {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), readyURLEnv+"=rediss://"+tt.host+":"+port, "SSL_CERT_FILE="+tt.ca, "SSL_CERT_DIR="+dir+"/none")
		out, err := child.CombinedOutput()
		require.NoError(t, err)
		require.Contains(t, string(out), tt.want)
	}
}

// Sentinel promotes a replica: the store finds it, with an empty bucket and the block.
func TestRedisSentinel(t *testing.T) {
	if testing.Short() {
		t.Skip("a failover takes seconds")
	}
	t.Parallel()
	master := startRedis(t)
	host, port, _ := net.SplitHostPort(master.Address)
	replica := startRedis(t, "--replicaof", host+" "+port)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, os.WriteFile(config, []byte("sentinel monitor balances "+host+" "+port+" 1\n"+
		"sentinel down-after-milliseconds balances 500\nsentinel failover-timeout balances 3000\n"), 0o600))
	sentinel := servertest.StartSentinel(t, config)
	require.Eventually(t, func() bool { // it is known, and has everything
		c := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Address})
		defer func() { _ = c.Close() }()
		replicas, err := c.Replicas(t.Context(), "balances").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	}, 2*patience, 20*time.Millisecond)

	var logged lines
	s := openURL(t, "redis-sentinel://"+sentinel.Address+"/balances", state.Options{Logger: logged.logger()})
	want := quota.Account{FullAt: statetest.Start, BlockedUntil: statetest.Start.Add(time.Hour), Cause: quota.CauseRateLimited}
	statetest.SetQuota(t, s, "a", want)
	statetest.Publish(t, s, "a", map[string]*snapshot.Snapshot{"k": statetest.Balance(1)})
	record := master.Get(t.Context(), "balance_exporter:quota:a").Val()
	require.NotEmpty(t, record)
	require.Eventually(t, func() bool { // replication is asynchronous
		return replica.Get(t.Context(), "balance_exporter:quota:a").Val() == record && replica.HLen(t.Context(), "balance_exporter:snapshots:a").Val() == 1
	}, patience, 5*time.Millisecond)
	master.Kill()
	var got quota.Account
	require.Eventually(t, func() bool {
		update, err := s.Update(t.Context(), "a", func(a quota.Account, _ time.Time) quota.Account { return a })
		got = update
		return err == nil
	}, 2*patience, 10*time.Millisecond)
	require.Equal(t, quota.Lost(want), got)
	require.Equal(t, map[string]*snapshot.Snapshot{"k": statetest.Balance(1)}, statetest.Snapshots(t, s, "a"))
	require.Equal(t, "role:master", regexp.MustCompile(`role:\w+`).FindString(replica.Info(t.Context(), "replication").Val()))
	require.Equal(t, lineUp, lastOf(logged.take()))
}

// The sizes that docs/high-availability.md promises.
func TestRedisMemory(t *testing.T) {
	t.Parallel()
	server := startRedis(t)
	s := server.open(t, state.Options{})
	used := func() float64 {
		info := server.Info(t.Context(), "memory").Val()
		var n float64
		_, err := fmt.Sscanf(regexp.MustCompile(`used_memory:(\d+)`).FindString(info), "used_memory:%f", &n)
		require.NoError(t, err)
		return n
	}
	const n = 5_000
	all := make(map[string]*snapshot.Snapshot, n)
	for i := range n {
		all[key(i)] = subscriber(i)
	}
	before := used()
	statetest.Publish(t, s, "a", all)
	perSource := (used() - before) / n
	assert.LessOrEqual(t, perSource, 400.0, "bytes per source")
	before = used()
	statetest.Publish(t, s, "b", map[string]*snapshot.Snapshot{"prices": statetest.Prices(50_000)})
	prices := used() - before
	assert.LessOrEqual(t, prices, float64(1<<20), "bytes of 50 000 prices")
	t.Logf("%.0f bytes per source, %.0f bytes of 50 000 prices", perSource, math.Round(prices))
}

func lastOf(list []string) string { return list[len(list)-1] }
