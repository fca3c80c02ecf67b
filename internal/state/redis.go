package state

import (
	"context"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/redis/go-redis/v9"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

const (
	// heldRetry is when a claim that another process has may be repeated, and
	// heldWholeRetry that of a whole account, which may last.
	heldRetry      = 250 * time.Millisecond
	heldWholeRetry = time.Second
	// scriptPortion is how many sources one script handles: it stops the server for
	// about a millisecond.
	scriptPortion = 500
	// versionSize is the length of the version, in decimal, at the start of a stored
	// snapshot: as long as a time in microseconds until the year 2286.
	versionSize = 16
	runIDSize   = 40
)

// Each script is one atomic step. All arithmetic of quotas is in Go.
var (
	//go:embed lua/update.lua
	updateText string
	//go:embed lua/newer.lua
	newerText string
	//go:embed lua/claim.lua
	claimText string
	//go:embed lua/publish.lua
	publishText string
	//go:embed lua/renew.lua
	renewText string

	updateScript  = redis.NewScript(updateText)
	newerScript   = redis.NewScript(newerText)
	claimScript   = redis.NewScript(claimText)
	publishScript = redis.NewScript(publishText)
	renewScript   = redis.NewScript(renewText)
)

// redisStore is the Store on a Redis or Valkey server that several processes share.
// An account has four keys: its quota record, a hash of its snapshots, a name for what
// that holds, and a hash of the leases of those sources that are being fetched.
//
// A quota record begins with the run id of the server that has stored it. If that is
// another one now (a restart, a failover), some updates may be lost, and the bucket
// counts as empty.
type redisStore struct {
	prefix   string
	owner    string // names this process in leases
	logger   log.Logger
	observer Observer
	link     *link
	leases   leases

	mu     sync.Mutex
	clock  serverClock
	quotas map[string]string // the last known stored form of each quota record
	// generations names what is stored of each account, as this process last saw it.
	generations map[string]string
	// unpublished are outcomes that the server could not take. They are served here
	// already, and published when it has recovered.
	unpublished map[name]storedOutcome
	warned      bool // about the server's settings
}

// serverClock estimates the time of the server. It is never ahead: what it misses is
// the way of an answer.
type serverClock struct {
	run  string    // the run id of the server
	at   time.Time // of the server
	seen time.Time // of this process, when that arrived
}

func (c *serverClock) now() time.Time { return c.at.Add(time.Since(c.seen)) }

// fresh reports whether the estimate is good: clocks drift apart.
func (c *serverClock) fresh() bool { return time.Since(c.seen) < time.Second }

// learn takes over a time of the server if it is the better estimate.
func (c *serverClock) learn(at time.Time) {
	if at.After(c.now()) {
		c.at, c.seen = at, time.Now()
	}
}

func openRedis(server *server, opts Options) *redisStore {
	address := strings.Join(server.addresses, ",")
	s := &redisStore{
		prefix: opts.Prefix, owner: randomName(),
		logger: log.With(opts.Logger, "component", "state"), observer: opts.Observer,
		quotas: make(map[string]string), generations: make(map[string]string), unpublished: make(map[name]storedOutcome),
	}
	s.link = &link{
		address: address, logger: s.logger, connect: server.connector(opts),
		probe: s.probe, recovered: s.publishUnpublished,
	}
	s.leases.store = s
	s.link.open()
	return s
}

func (s *redisStore) quotaKey(id string) string      { return s.prefix + "quota:" + id }
func (s *redisStore) snapshotKey(id string) string   { return s.prefix + "snapshots:" + id }
func (s *redisStore) generationKey(id string) string { return s.prefix + "generation:" + id }
func (s *redisStore) leaseKey(id string) string      { return s.prefix + "leases:" + id }

// keys are those of the sources of an account, in the order of the scripts.
func (s *redisStore) keys(id string) []string { return []string{s.snapshotKey(id), s.leaseKey(id)} }

// call runs f as an operation, and reports it.
func (s *redisStore) call(ctx context.Context, op string, f func(ctx context.Context, c *redis.Client) error) error {
	start := time.Now()
	err := s.link.do(ctx, f)
	if ctx.Err() == nil { // else the caller has cancelled it
		s.observer.Operation(op, time.Since(start), err)
	}
	return err
}

// run runs a script. If a key has the wrong type, run renames it and repeats the script.
func (s *redisStore) run(ctx context.Context, c *redis.Client, script *redis.Script, keys []string, args ...any) ([]any, error) {
	for tries := 1; ; tries++ {
		answer, err := script.Run(ctx, c, keys, args...).Slice()
		if err == nil || tries > len(keys) || !strings.Contains(err.Error(), "WRONGTYPE") {
			return answer, err
		}
		for _, key := range keys {
			want := "hash"
			if strings.HasPrefix(key, s.prefix+"quota:") || strings.HasPrefix(key, s.prefix+"generation:") {
				want = "string"
			}
			got, err := c.Type(ctx, key).Result()
			if err == nil && got != want && got != "none" {
				err = s.setAside(ctx, c, key, fmt.Errorf("it is a %s, expected a %s", got, want))
			}
			if err != nil {
				return nil, err
			}
		}
	}
}

// setAside renames a key that cannot be used.
func (s *redisStore) setAside(ctx context.Context, c *redis.Client, key string, reason error) error {
	to := key + ":damaged-" + time.Now().UTC().Format("20060102T150405.000000Z")
	err := c.Rename(ctx, key, to).Err()
	if err != nil && !strings.Contains(err.Error(), "no such key") { // another process was faster
		return err
	}
	_ = level.Error(s.logger).Log("msg", "a key cannot be used; it is renamed and a new one is created", "key", key, "renamed_to", to, "err", reason)
	return nil
}

// Update implements [Store].
func (s *redisStore) Update(ctx context.Context, id string, change func(quota.Account, time.Time) quota.Account) (account quota.Account, err error) {
	err = s.call(ctx, opUpdate, func(ctx context.Context, c *redis.Client) error {
		account, err = s.update(ctx, c, id, change)
		return err
	})
	return account, err
}

// update tries with what it last saw of the record until no other process has changed
// that. It begins with a read if the clock of the server is not known well.
func (s *redisStore) update(ctx context.Context, c *redis.Client, id string, change func(quota.Account, time.Time) quota.Account) (quota.Account, error) {
	for {
		s.mu.Lock()
		clock, before := s.clock, s.quotas[id]
		s.mu.Unlock()
		run, now := clock.run, clock.now()
		if !clock.fresh() {
			run = ""
		}
		account, err := decodeShared(id, run, before)
		if err != nil {
			if err := s.setAside(ctx, c, s.quotaKey(id), err); err != nil {
				return quota.Account{}, err
			}
			before, run = "", ""
		}
		next, after := before, account
		if run != "" {
			if after = change(account, now); after != account {
				next = run + string(encodeQuota(id, after))
			}
		}
		answer, err := s.run(ctx, c, updateScript, []string{s.quotaKey(id)},
			run, before, now.UnixMicro(), next, int(Retention.Seconds()))
		if err != nil {
			return quota.Account{}, err
		}
		replaced, _ := answer[0].(int64)
		micros, _ := answer[1].(int64)
		at := time.UnixMicro(micros)
		s.mu.Lock()
		if replaced == 1 {
			s.quotas[id] = next
			s.clock.learn(at)
			s.mu.Unlock()
			return after, nil
		}
		s.quotas[id], _ = answer[3].(string)
		run, _ = answer[2].(string)
		s.clock = serverClock{run: run, at: at, seen: time.Now()}
		s.mu.Unlock()
	}
}

// decodeShared decodes a quota record that a server with a run id has returned. Of one
// that is missing, or that another run has stored, the bucket is lost.
func decodeShared(id, run, record string) (quota.Account, error) {
	if record == "" {
		return quota.Lost(quota.Account{}), nil
	}
	if len(record) < runIDSize {
		return quota.Account{}, errors.New("record is too short")
	}
	account, err := decodeQuota(id, []byte(record[runIDSize:]))
	if record[:runIDSize] != run {
		account = quota.Lost(account)
	}
	return account, err
}

// Load implements [Store].
func (s *redisStore) Load(ctx context.Context, id string, keys []string, fn func(key string, s *snapshot.Snapshot, version uint64)) error {
	var err error
	pass(fn, func(yield func(loaded) bool) {
		if keys == nil {
			err = s.loadAll(ctx, id, yield)
		} else {
			err = s.loadSome(ctx, id, keys, yield)
		}
	})
	return err
}

// loadSome yields the snapshots of the keys.
func (s *redisStore) loadSome(ctx context.Context, id string, keys []string, yield func(loaded) bool) error {
	for batch := range slices.Chunk(keys, portion) {
		var records []any
		err := s.load(ctx, id, func(ctx context.Context, c *redis.Client) (err error) {
			records, err = c.HMGet(ctx, s.snapshotKey(id), batch...).Result()
			return err
		})
		if err != nil {
			return err
		}
		for i, key := range batch {
			if record, ok := records[i].(string); ok {
				if decoded, version, ok := s.decode(ctx, id, key, record); ok && !yield(loaded{key, decoded, version}) {
					return nil
				}
			}
		}
	}
	return nil
}

// loadAll yields the snapshots of all keys, and deletes those that are too old.
func (s *redisStore) loadAll(ctx context.Context, id string, yield func(loaded) bool) error {
	oldest := uint64(max(time.Now().Add(-Retention).UnixMicro(), 0))
	for cursor := uint64(0); ; {
		var fields []string
		err := s.load(ctx, id, func(ctx context.Context, c *redis.Client) (err error) {
			fields, cursor, err = c.HScan(ctx, s.snapshotKey(id), cursor, "", portion).Result()
			return err
		})
		if err != nil {
			return err
		}
		var old []string
		for i := 0; i+1 < len(fields); i += 2 {
			decoded, version, ok := s.decode(ctx, id, fields[i], fields[i+1])
			switch {
			case !ok:
			case version < oldest:
				old = append(old, fields[i])
			case !yield(loaded{fields[i], decoded, version}):
				return nil
			}
		}
		if len(old) > 0 {
			_ = s.call(ctx, opLoad, func(ctx context.Context, c *redis.Client) error {
				return c.HDel(ctx, s.snapshotKey(id), old...).Err()
			})
		}
		if cursor == 0 {
			return nil
		}
	}
}

// load runs a command that reads the snapshots of an account. A key of the wrong type is
// renamed.
func (s *redisStore) load(ctx context.Context, id string, read func(ctx context.Context, c *redis.Client) error) error {
	return s.call(ctx, opLoad, func(ctx context.Context, c *redis.Client) error {
		err := read(ctx, c)
		if err != nil && strings.Contains(err.Error(), "WRONGTYPE") {
			_, err = s.newer(ctx, c, id, []Source{{}})
		}
		return err
	})
}

// decode returns a stored snapshot. One that cannot be read is moved to a hash of its
// own, and reported.
func (s *redisStore) decode(ctx context.Context, id, key, record string) (*snapshot.Snapshot, uint64, bool) {
	var version uint64
	var decoded *snapshot.Snapshot
	err := errors.New("record is too short")
	if len(record) >= versionSize {
		if version, err = strconv.ParseUint(record[:versionSize], 10, 64); err == nil {
			decoded, err = decodeSnapshot(id, key, []byte(record[versionSize:]))
		}
	}
	if err == nil {
		return decoded, version, true
	}
	_ = level.Error(s.logger).Log("msg", "a stored snapshot cannot be read; it is moved aside, and the source is fetched again", "key", s.snapshotKey(id), "field", key, "moved_to", s.snapshotKey(id)+":damaged", "err", err)
	_ = s.call(ctx, opLoad, func(ctx context.Context, c *redis.Client) error {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.HSet(ctx, s.snapshotKey(id)+":damaged", key, record)
			p.Expire(ctx, s.snapshotKey(id)+":damaged", Retention)
			p.HDel(ctx, s.snapshotKey(id), key)
			return nil
		})
		return err
	})
	return nil, 0, false
}

// Newer implements [Store]. A restart, a failover and a flush lose snapshots: the run id
// of the server changes, or the name of what is stored.
func (s *redisStore) Newer(ctx context.Context, id string, sources []Source, fn func(key string, s *snapshot.Snapshot, version uint64)) (lost bool, err error) {
	for more := true; more; more = len(sources) > 0 {
		batch := sources[:min(scriptPortion, len(sources))]
		sources = sources[len(batch):]
		var answer []any
		err := s.call(ctx, opLoad, func(ctx context.Context, c *redis.Client) (err error) {
			answer, err = s.newer(ctx, c, id, batch)
			return err
		})
		if err != nil {
			return lost, err
		}
		generation, _ := answer[0].(string)
		s.mu.Lock()
		lost = lost || s.generations[id] != "" && s.generations[id] != generation
		s.generations[id] = generation
		s.mu.Unlock()
		for i, source := range batch {
			record, ok := answer[i+1].(string)
			if !ok {
				continue
			}
			if decoded, version, ok := s.decode(ctx, id, source.Key, record); ok {
				s.observer.Claimed(Shared.String())
				fn(source.Key, decoded, version)
			}
		}
	}
	return lost, nil
}

func (s *redisStore) newer(ctx context.Context, c *redis.Client, id string, sources []Source) ([]any, error) {
	args := []any{randomName(), int(Retention.Seconds())}
	for _, source := range sources {
		args = append(args, source.Key, source.Version)
	}
	return s.run(ctx, c, newerScript, []string{s.snapshotKey(id), s.generationKey(id)}, args...)
}

// Claim implements [Store].
func (s *redisStore) Claim(ctx context.Context, id string, whole bool, sources []Source) ([]Claim, error) {
	args := []any{s.owner, s.leases.lifeMicros(), int(Retention.Seconds()), flag(whole)}
	for _, source := range sources {
		args = append(args, source.Key, source.Version)
	}
	longest := heldRetry
	if whole {
		longest = heldWholeRetry
	}
	start := time.Now()
	var answer []any
	err := s.call(ctx, opClaim, func(ctx context.Context, c *redis.Client) (err error) {
		answer, err = s.run(ctx, c, claimScript, s.keys(id), args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	claims := make([]Claim, len(sources))
	for i, source := range sources {
		fields, _ := answer[i].([]any)
		if record, ok := fields[0].(string); ok {
			decoded, version, ok := s.decode(ctx, id, source.Key, record)
			claims[i] = Claim{Result: Shared, Snapshot: decoded, Version: version}
			if !ok {
				claims[i] = Claim{Result: Held} // without what was moved aside, it is granted
			}
		} else if token, _ := fields[0].(int64); token == 0 {
			left, _ := fields[1].(int64)
			claims[i] = Claim{Result: Held, Retry: min(time.Duration(left)*time.Microsecond, longest)}
		} else {
			claims[i] = Claim{Token: uint64(token)} //nolint:gosec // a time
			claims[i].Lost = s.leases.add(id, source.Key, whole, claims[i].Token, start)
		}
		s.observer.Claimed(claims[i].Result.String())
	}
	return claims, nil
}

// Publish implements [Store].
func (s *redisStore) Publish(ctx context.Context, id string, outcomes []Outcome) ([]bool, error) {
	accepted := make([]bool, len(outcomes))
	stored := make([]storedOutcome, 0, len(outcomes))
	positions := make([]int, 0, len(outcomes)) // of stored in outcomes
	for i, o := range outcomes {
		whole, ok := false, o.Again || o.Token == 0
		if !ok {
			whole, ok = s.leases.end(id, o.Key, o.Token)
		}
		if !ok {
			continue // it was lost
		}
		one := storedOutcome{key: o.Key, token: o.Token, whole: whole, again: o.Again, action: "set"}
		switch {
		case o.Abandoned:
			one.action = "abandon"
		case o.Snapshot == nil:
			one.action = "forget"
		default:
			one.record = fmt.Sprintf("%0*d%s", versionSize, o.Token, encodeSnapshot(id, o.Key, o.Snapshot))
		}
		stored, positions = append(stored, one), append(positions, i)
	}
	answers, err := s.publish(ctx, id, stored)
	if errors.Is(err, errClosed) {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, one := range stored {
		if i < len(answers) {
			accepted[positions[i]] = answers[i]
		} else if !one.again {
			accepted[positions[i]] = true
			s.unpublished[name{id, one.key}] = one
		}
	}
	return accepted, err
}

// storedOutcome is an outcome as publish.lua takes it.
type storedOutcome struct {
	key    string
	token  uint64
	whole  bool
	again  bool
	action string
	record string
}

// publish returns whether each outcome was accepted; with an error, of those before it.
func (s *redisStore) publish(ctx context.Context, id string, outcomes []storedOutcome) ([]bool, error) {
	var accepted []bool
	for len(outcomes) > 0 {
		batch := outcomes[:min(scriptPortion, len(outcomes))]
		outcomes = outcomes[len(batch):]
		args := []any{s.owner, int(Retention.Seconds())}
		for _, o := range batch {
			args = append(args, o.key, o.token, flag(o.whole), o.action, o.record)
		}
		err := s.call(ctx, opPublish, func(ctx context.Context, c *redis.Client) error {
			answer, err := s.run(ctx, c, publishScript, s.keys(id), args...)
			for i, a := range answer {
				ok, _ := a.(int64)
				accepted = append(accepted, ok == 1)
				if ok != 1 && batch[i].token > 0 && !batch[i].again {
					s.observer.Claimed(Lost.String())
				}
			}
			return err
		})
		if err != nil {
			return accepted, err
		}
	}
	return accepted, nil
}

// publishUnpublished publishes what the server could not take while it was down. What
// another process has published since counts.
func (s *redisStore) publishUnpublished() {
	s.mu.Lock()
	byID := make(map[string][]storedOutcome)
	for n, o := range s.unpublished {
		byID[n.id] = append(byID[n.id], o)
	}
	s.mu.Unlock()
	for id, outcomes := range byID {
		if _, err := s.publish(s.link.ctx, id, outcomes); err != nil {
			return // the link is down again
		}
		s.mu.Lock()
		for _, o := range outcomes {
			if s.unpublished[name{id, o.key}] == o {
				delete(s.unpublished, name{id, o.key})
			}
		}
		s.mu.Unlock()
	}
}

// Shared implements [Store].
func (s *redisStore) Shared() bool { return true }

// Ready implements [Store].
func (s *redisStore) Ready(context.Context) error { return s.link.ready() }

// Close implements [Store].
func (s *redisStore) Close() error {
	s.leases.release()
	s.link.close()
	s.leases.work.Wait()
	return nil
}

// probe uses the server in every way in which the store does, on keys of its own.
func (s *redisStore) probe(ctx context.Context, c *redis.Client) error {
	if err := s.checkServer(ctx, c); err != nil {
		return err
	}
	id := ":probe-" + s.owner
	_, err := s.update(ctx, c, id, func(a quota.Account, _ time.Time) quota.Account {
		a.Limited++
		return a
	})
	if err != nil {
		return err
	}
	hash := hex.EncodeToString([]byte(s.owner)) // any record
	for _, try := range []func() error{
		func() error {
			_, err := s.run(ctx, c, claimScript, s.keys(id), s.owner, 1000000, 60, "", "a", 0)
			return err
		},
		func() error {
			_, err := s.run(ctx, c, renewScript, s.keys(id), s.owner, 1000000, 60, "a", 1, "")
			return err
		},
		func() error {
			_, err := s.run(ctx, c, publishScript, s.keys(id), s.owner, 60, "a", 0, "", "set", hash, "b", 0, "", "forget", "")
			return err
		},
		func() error { _, err := s.newer(ctx, c, id, []Source{{Key: "a"}}); return err },
		func() error { return c.HScan(ctx, s.snapshotKey(id), 0, "", 1).Err() },
		func() error { return c.Type(ctx, s.snapshotKey(id)).Err() },
		func() error { return c.Rename(ctx, s.snapshotKey(id), s.snapshotKey(id)+":damaged").Err() },
		func() error {
			return c.Del(ctx, s.quotaKey(id), s.snapshotKey(id), s.leaseKey(id), s.generationKey(id), s.snapshotKey(id)+":damaged").Err()
		},
	} {
		if err := try(); err != nil {
			return err
		}
	}
	return nil
}

// checkServer warns once of a server that is too old, or that may evict keys.
func (s *redisStore) checkServer(ctx context.Context, c *redis.Client) error {
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	memory, err := c.Info(ctx, "memory").Result()
	if err != nil {
		return err
	}
	values := make(map[string]string)
	for line := range strings.Lines(info + memory) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[key] = value
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warned {
		return nil
	}
	s.warned = true
	if policy := values["maxmemory_policy"]; policy != "noeviction" {
		_ = level.Warn(s.logger).Log("msg", "the server may evict keys, which loses quota and values; set maxmemory-policy noeviction", "address", s.link.address, "maxmemory_policy", policy)
	}
	var major, minor int
	_, _ = fmt.Sscanf(values["redis_version"], "%d.%d", &major, &minor)
	if major < 6 || major == 6 && minor < 2 {
		_ = level.Warn(s.logger).Log("msg", "the server is older than Redis 6.2, with which the exporter is not tested", "address", s.link.address, "version", values["redis_version"])
	}
	return nil
}

func randomName() string { return fmt.Sprintf("%016x", rand.Uint64()) } //nolint:gosec // no secret

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}
