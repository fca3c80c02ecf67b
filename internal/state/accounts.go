package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// sectorSize is what a disk writes wholly or not at all.
	sectorSize = 512
	// accountHeadSize is checksum uint32, length of the JSON uint32, sequence
	// number uint64, SHA-256 of the id.
	accountHeadSize = 16 + sha256.Size
	// maxAccountsSize bounds what is read at start: room for 32 000 accounts.
	maxAccountsSize = 32 << 20

	accountsMagic   = "balance_exporter accounts, format "
	accountsVersion = "1\n"
)

// accountFile keeps the accounts. It is a header sector and then two sectors per
// account, written in turn, so that the older record stands until the newer is
// whole. To save is one write of one sector into the page cache, which the end of
// the process cannot undo; sync bounds what a power cut can.
type accountFile struct {
	mu    sync.Mutex
	f     sectorFile
	seq   uint64 // of the newest record
	pairs []*accountPair
	byID  map[accountID]*accountPair
	dirty bool
}

// sectorFile is the part of [os.File] that accountFile needs.
type sectorFile interface {
	io.WriterAt
	Sync() error
	Close() error
}

// accountID is the SHA-256 of an account's id, which gives every id one length.
type accountID [sha256.Size]byte

// accountPair is two sectors of the file.
type accountPair struct {
	index   int       // counted from 0
	id      accountID // zero if the pair is free
	account Account
	seq     uint64
	second  bool // the newest record is in the second sector
}

// openAccounts opens or creates the file at path. An unusable one is set aside; a
// damaged record is left out.
func openAccounts(path string, logger log.Logger) (*accountFile, error) {
	for {
		f, err := openFile(path, logger)
		if err != nil {
			return nil, err
		}
		a, err := readAccounts(f, logger)
		if err == nil {
			return a, nil
		}
		_ = f.Close()
		if d := (damage{}); !errors.As(err, &d) {
			return nil, fmt.Errorf("state file: %w", err)
		}
		if err := setAside(path, err, logger); err != nil {
			return nil, fmt.Errorf("state file %s: %w", path, err)
		}
	}
}

// readAccounts reads a file into an accountFile that goes on writing it.
func readAccounts(f *os.File, logger log.Logger) (*accountFile, error) {
	a := &accountFile{f: f, byID: make(map[accountID]*accountPair)}
	data, err := io.ReadAll(io.LimitReader(f, maxAccountsSize+1))
	if err != nil {
		return nil, damage{err}
	}
	if len(data) == 0 {
		header := make([]byte, sectorSize)
		copy(header, accountsMagic+accountsVersion)
		_, err := f.WriteAt(header, 0)
		return a, err
	}
	if err := checkAccountsHeader(data); err != nil {
		return nil, damage{err}
	}
	if bad := a.load(data[sectorSize:]); bad > 0 {
		_ = level.Warn(logger).Log("msg", "state file has damaged records; they are left out", "file", f.Name(), "records", bad)
	}
	return a, nil
}

// checkAccountsHeader returns an error if data is no account file of this format.
func checkAccountsHeader(data []byte) error {
	if len(data) > maxAccountsSize {
		return fmt.Errorf("more than %d bytes", maxAccountsSize)
	}
	if len(data) < sectorSize {
		return errors.New("file is cut short")
	}
	version, ok := strings.CutPrefix(string(bytes.TrimRight(data[:sectorSize], "\x00")), accountsMagic)
	if !ok {
		return errors.New("not a file of this exporter")
	}
	if version != accountsVersion {
		return fmt.Errorf("format %q, expected %q: written by another version of the exporter", version, accountsVersion)
	}
	return nil
}

// load takes the records from sectors, and returns how many were damaged.
func (a *accountFile) load(sectors []byte) (bad int) {
	for i := 0; i*sectorSize < len(sectors); i++ {
		if i%2 == 0 {
			a.pairs = append(a.pairs, &accountPair{index: i / 2})
		}
		sector := sectors[i*sectorSize : min(len(sectors), (i+1)*sectorSize)]
		if len(bytes.Trim(sector, "\x00")) == 0 {
			continue // never written, or forgotten
		}
		id, seq, account, err := decodeAccount(sector)
		if err != nil {
			bad++
			continue
		}
		a.seq = max(a.seq, seq)
		if pair := a.pairs[i/2]; seq >= pair.seq {
			*pair = accountPair{index: i / 2, id: id, account: account, seq: seq, second: i%2 == 1}
		}
	}
	for _, pair := range a.pairs {
		if pair.seq == 0 {
			continue
		}
		// A power cut can bring a forgotten record back; the newer one counts.
		if other := a.byID[pair.id]; other == nil || pair.seq > other.seq {
			a.byID[pair.id] = pair
		}
	}
	return bad
}

// get returns what is kept of an account.
func (a *accountFile) get(id string) Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	if pair := a.byID[sha256.Sum256([]byte(id))]; pair != nil {
		return pair.account
	}
	return Account{}
}

// put writes the record of an account.
func (a *accountFile) put(id string, account Account) error {
	hash := accountID(sha256.Sum256([]byte(id)))
	a.mu.Lock()
	defer a.mu.Unlock()
	pair := a.byID[hash]
	if pair == nil {
		pair = a.freePair()
	}
	next := accountPair{index: pair.index, id: hash, account: account, seq: a.seq + 1, second: pair.seq != 0 && !pair.second}
	sector, err := encodeAccount(hash, next.seq, account)
	if err != nil {
		return err
	}
	// A failed write leaves the other sector, and with it the old record, whole.
	if _, err := a.f.WriteAt(sector, next.offset()); err != nil {
		return err
	}
	*pair, a.seq, a.dirty = next, next.seq, true
	a.byID[hash] = pair
	return nil
}

// freePair returns a pair that no account has.
func (a *accountFile) freePair() *accountPair {
	for _, pair := range a.pairs {
		if a.byID[pair.id] != pair {
			return pair
		}
	}
	pair := &accountPair{index: len(a.pairs)}
	a.pairs = append(a.pairs, pair)
	return pair
}

// offset returns where the record of p is in the file.
func (p *accountPair) offset() int64 {
	sector := 1 + 2*int64(p.index)
	if p.second {
		sector++
	}
	return sector * sectorSize
}

// retain forgets every account that is not named.
func (a *accountFile) retain(ids []string) error {
	keep := make(map[accountID]bool, len(ids))
	for _, id := range ids {
		keep[sha256.Sum256([]byte(id))] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, pair := range a.byID {
		if keep[id] {
			continue
		}
		first := accountPair{index: pair.index}
		if _, err := a.f.WriteAt(make([]byte, 2*sectorSize), first.offset()); err != nil {
			return err
		}
		delete(a.byID, id)
		*pair = first
		a.dirty = true
	}
	return nil
}

// sync hands what was written to the disk.
func (a *accountFile) sync() error {
	a.mu.Lock()
	dirty := a.dirty
	a.dirty = false
	a.mu.Unlock()
	if !dirty {
		return nil
	}
	// Not under the lock: nobody who saves an account waits for the disk.
	err := a.f.Sync()
	if err != nil {
		a.mu.Lock()
		a.dirty = true
		a.mu.Unlock()
	}
	return err
}

// close ends the use of the file.
func (a *accountFile) close() error {
	return errors.Join(a.sync(), a.f.Close())
}

// encodeAccount returns the sector for an account.
func encodeAccount(id accountID, seq uint64, account Account) ([]byte, error) {
	text, err := json.Marshal(account)
	if err != nil {
		return nil, err
	}
	if len(text) > sectorSize-accountHeadSize {
		return nil, fmt.Errorf("account record of %d bytes, at most %d fit", len(text), sectorSize-accountHeadSize)
	}
	sector := make([]byte, sectorSize)
	binary.BigEndian.PutUint32(sector[4:], uint32(len(text)))
	binary.BigEndian.PutUint64(sector[8:], seq)
	copy(sector[16:], id[:])
	copy(sector[accountHeadSize:], text)
	binary.BigEndian.PutUint32(sector, crc32.Checksum(sector[4:], castagnoli))
	return sector, nil
}

// decodeAccount returns what a sector made by encodeAccount holds.
func decodeAccount(sector []byte) (id accountID, seq uint64, account Account, err error) {
	if len(sector) != sectorSize || binary.BigEndian.Uint32(sector) != crc32.Checksum(sector[4:], castagnoli) {
		return id, 0, account, errors.New("record has a wrong checksum")
	}
	n := binary.BigEndian.Uint32(sector[4:])
	if n > sectorSize-accountHeadSize {
		return id, 0, account, fmt.Errorf("record of %d bytes", n)
	}
	if err := json.Unmarshal(sector[accountHeadSize:accountHeadSize+n], &account); err != nil {
		return id, 0, Account{}, err
	}
	copy(id[:], sector[16:])
	return id, binary.BigEndian.Uint64(sector[8:]), account, nil
}
