package state

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// formatVersion is the version of the stored form: of each record and of a whole
// file. It changes whenever an older exporter would misread a record; testdata
// has golden records of each version.
const formatVersion = 1

// A record is the format version, an encoding, a checksum and the content.
const (
	plain    = 0
	deflated = 1

	headSize = 6
	// compression makes 50 000 prices 0.4 MB, in a tenth of a second.
	compression = 4
	// deflateFrom is the size in bytes from which content is compressed. Price
	// lists are larger, other records smaller.
	deflateFrom = 4 << 10
	// maxContent bounds what a record inflates to. 50 000 prices need 2 MB.
	maxContent = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// quotaFields is the content of a quota record. The order is the stored form.
func quotaFields(f *fields, a *quota.Account) {
	f.time(&a.FullAt, time.Time{})
	f.time(&a.BlockedUntil, time.Time{})
	text(f, &a.Cause)
	integer(f, &a.Limited)
	integer(f, &a.Refused)
	f.time(&a.LimitedAt, time.Time{})
}

// snapshotFields is the content of the record of a snapshot. The order is the stored
// form. It leaves out the Roster, which a source restores from Kept.
func snapshotFields(f *fields, s *snapshot.Snapshot) {
	f.time(&s.FetchedAt, time.Time{})
	f.time(&s.TriedAt, s.FetchedAt)
	f.time(&s.DueAt, s.TriedAt)
	f.bool(&s.Ended)
	optional(f, &s.Failure, func(failure *snapshot.Failure) {
		text(f, &failure.Reason)
		text(f, &failure.Message)
		text(f, &failure.ID)
		integer(f, &failure.Count)
	})
	r := &s.Reading
	text(f, &r.Subscriber)
	list(f, &r.SubscriberBalances, func(b *providers.SubscriberBalance) {
		f.uuid(&b.ID)
		text(f, &b.Currency)
		text(f, &b.Unit)
		f.float(&b.Value)
	})
	text(f, &r.Billing)
	list(f, &r.Balances, func(b *providers.Balance) {
		f.float(&b.Amount)
		text(f, &b.Currency)
		text(f, &b.Wallet)
		f.time(&b.Expires, time.Time{})
	})
	list(f, &r.Prices, func(p *providers.Price) {
		text(f, &p.SubAccount)
		text(f, &p.Country)
		text(f, &p.MCC)
		text(f, &p.MNC)
		text(f, &p.Operator)
		text(f, &p.NumberType)
		text(f, &p.Direction)
		f.float(&p.Amount)
		text(f, &p.Currency)
	})
	var reasons []providers.DropReason
	if len(r.Dropped) > 0 { // most have none, and sorting that is a seventh of decoding
		reasons = slices.Sorted(maps.Keys(r.Dropped))
	}
	list(f, &reasons, func(reason *providers.DropReason) {
		text(f, reason)
		n := r.Dropped[*reason]
		integer(f, &n)
		if f.reading {
			if r.Dropped == nil {
				r.Dropped = make(map[providers.DropReason]int)
			}
			r.Dropped[*reason] = n
		}
	})
	integer(f, &r.AskAfter)
	text(f, &r.Kept)
}

func encodeQuota(id string, a quota.Account) []byte {
	return seal(id, "", func(f *fields) { quotaFields(f, &a) })
}

func decodeQuota(id string, record []byte) (a quota.Account, err error) {
	err = unseal(id, "", record, func(f *fields) { quotaFields(f, &a) })
	return a, err
}

func encodeSnapshot(id, key string, s *snapshot.Snapshot) []byte {
	return seal(id, key, func(f *fields) { snapshotFields(f, s) })
}

func decodeSnapshot(id, key string, record []byte) (*snapshot.Snapshot, error) {
	s := new(snapshot.Snapshot)
	err := unseal(id, key, record, func(f *fields) { snapshotFields(f, s) })
	return s, err
}

// seal returns the record of content. The checksum covers its names too, so that
// a record in the place of another one is noticed.
func seal(id, key string, content func(*fields)) []byte {
	f := fields{data: make([]byte, headSize, 128)}
	content(&f)
	record := f.data
	record[0], record[1] = formatVersion, plain
	if len(record) >= deflateFrom {
		smaller := bytes.NewBuffer(make([]byte, 0, len(record)/2))
		smaller.Write(record[:headSize])
		w, _ := flate.NewWriter(smaller, compression) // the level is valid
		_, _ = w.Write(record[headSize:])             // a bytes.Buffer does not fail
		_ = w.Close()
		record = smaller.Bytes()
		record[1] = deflated
	}
	binary.BigEndian.PutUint32(record[2:], checksum(id, key, record))
	return record
}

// unseal reads the content of a record.
func unseal(id, key string, record []byte, content func(*fields)) error {
	if len(record) < headSize {
		return errors.New("record is too short")
	}
	if record[0] != formatVersion {
		return fmt.Errorf("record has format %d, expected %d", record[0], formatVersion)
	}
	if binary.BigEndian.Uint32(record[2:]) != checksum(id, key, record) {
		return errors.New("record has a wrong checksum")
	}
	f := fields{data: record[headSize:], reading: true}
	if record[1] == deflated {
		r := io.LimitReader(flate.NewReader(bytes.NewReader(f.data)), maxContent+1)
		inflated, err := io.ReadAll(r)
		if err == nil && len(inflated) > maxContent {
			err = fmt.Errorf("record of more than %d bytes", maxContent)
		}
		if err != nil {
			return err
		}
		f.data = inflated
	}
	content(&f)
	if f.short || len(f.data) > 0 {
		return errors.New("record has the wrong length")
	}
	return nil
}

// checksum returns the CRC-32C of the record, except the checksum itself, and of
// its names.
func checksum(id, key string, record []byte) uint32 {
	names := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(id)+len(key)), uint64(len(id)))
	sum := crc32.Update(0, castagnoli, append(append(names, id...), key...))
	sum = crc32.Update(sum, castagnoli, record[:2])
	return crc32.Update(sum, castagnoli, record[headSize:])
}
