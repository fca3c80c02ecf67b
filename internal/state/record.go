package state

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/snapshot"
	"github.com/balance-exporter/balance_exporter/providers"
)

// formatVersion is the version of the stored form: of each record and of a whole
// file. It changes whenever an older exporter would misread a record; testdata
// has golden records of each version.
const formatVersion = 1

// A record is the format version, an encoding, a checksum and the content, which
// is JSON: it represents every float64 exactly, and no NaN. The stored types
// below are the stored form; a renamed field of the domain does not change it.
const (
	plain    = 0
	deflated = 1

	headSize = 6
	// compression makes 50 000 prices 0.8 MB, in a tenth of a second.
	compression = 4
	// deflateFrom is the size in bytes from which content is compressed. Price
	// lists are larger, other records smaller.
	deflateFrom = 4 << 10
	// maxContent bounds what a record inflates to. 50 000 prices need 3 MB.
	maxContent = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type storedQuota struct {
	FullAt       time.Time   `json:"full_at,omitzero"`
	BlockedUntil time.Time   `json:"blocked_until,omitzero"`
	Cause        quota.Cause `json:"cause,omitempty"`
	Limited      int         `json:"limited,omitempty"`
	Refused      int         `json:"refused,omitempty"`
	LimitedAt    time.Time   `json:"limited_at,omitzero"`
}

type storedSnapshot struct {
	Billing     providers.Billing            `json:"billing,omitempty"`
	Balances    []storedBalance              `json:"balances,omitempty"`
	Prices      []storedPrice                `json:"prices,omitempty"`
	Subscriber  string                       `json:"sub,omitempty"`
	Subscribed  []storedSubscriberBalance    `json:"subs,omitempty"`
	Dropped     map[providers.DropReason]int `json:"dropped,omitempty"`
	AskAfter    time.Duration                `json:"ask_after_ns,omitempty"`
	Kept        []byte                       `json:"kept,omitempty"`
	FetchedAt   time.Time                    `json:"fetched,omitzero"`
	TriedAt     time.Time                    `json:"tried,omitzero"` // left out if it is FetchedAt
	DueAt       time.Time                    `json:"due,omitzero"`
	LastFailure *storedFailure               `json:"failure,omitempty"`
	Ended       bool                         `json:"ended,omitempty"`
}

type storedBalance struct {
	Amount   float64   `json:"amount"`
	Currency string    `json:"currency,omitempty"`
	Wallet   string    `json:"wallet,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
}

type storedPrice struct {
	SubAccount string              `json:"s,omitempty"`
	Country    string              `json:"c,omitempty"`
	MCC        string              `json:"mcc,omitempty"`
	MNC        string              `json:"mnc,omitempty"`
	Operator   string              `json:"o,omitempty"`
	NumberType string              `json:"t,omitempty"`
	Direction  providers.Direction `json:"d,omitempty"`
	Amount     float64             `json:"amount"`
	Currency   string              `json:"cur,omitempty"`
}

type storedSubscriberBalance struct {
	ID       string  `json:"id,omitempty"`
	Currency string  `json:"cur,omitempty"`
	Unit     string  `json:"unit,omitempty"`
	Value    float64 `json:"v"`
}

type storedFailure struct {
	Reason  providers.Reason `json:"reason,omitempty"`
	Message string           `json:"message,omitempty"`
	ID      string           `json:"id,omitempty"`
	Count   int              `json:"count,omitempty"`
}

func encodeQuota(id string, a quota.Account) []byte {
	record, err := seal(id, "", storedQuota(a))
	if err != nil {
		panic(err) // no field can hold what JSON cannot
	}
	return record
}

func decodeQuota(id string, record []byte) (quota.Account, error) {
	var stored storedQuota
	err := unseal(id, "", record, &stored)
	return quota.Account(stored), err
}

// encodeSnapshot returns the record of a snapshot. It leaves out the Roster,
// which a source restores from Kept.
func encodeSnapshot(id, key string, s *snapshot.Snapshot) ([]byte, error) {
	r := &s.Reading
	triedAt := s.TriedAt
	if triedAt.Equal(s.FetchedAt) {
		triedAt = time.Time{}
	}
	return seal(id, key, storedSnapshot{
		Billing:    r.Billing,
		Balances:   convert(r.Balances, func(b providers.Balance) storedBalance { return storedBalance(b) }),
		Prices:     convert(r.Prices, func(p providers.Price) storedPrice { return storedPrice(p) }),
		Subscriber: r.Subscriber,
		Subscribed: convert(r.SubscriberBalances, func(b providers.SubscriberBalance) storedSubscriberBalance { return storedSubscriberBalance(b) }),
		Dropped:    r.Dropped, AskAfter: r.AskAfter, Kept: r.Kept,
		FetchedAt: s.FetchedAt, TriedAt: triedAt, DueAt: s.DueAt,
		LastFailure: (*storedFailure)(s.Failure), Ended: s.Ended,
	})
}

func decodeSnapshot(id, key string, record []byte) (*snapshot.Snapshot, error) {
	var stored storedSnapshot
	if err := unseal(id, key, record, &stored); err != nil {
		return nil, err
	}
	if stored.TriedAt.IsZero() {
		stored.TriedAt = stored.FetchedAt
	}
	return &snapshot.Snapshot{
		Reading: providers.Reading{
			Billing:            stored.Billing,
			Balances:           convert(stored.Balances, func(b storedBalance) providers.Balance { return providers.Balance(b) }),
			Prices:             convert(stored.Prices, func(p storedPrice) providers.Price { return providers.Price(p) }),
			Subscriber:         stored.Subscriber,
			SubscriberBalances: convert(stored.Subscribed, func(b storedSubscriberBalance) providers.SubscriberBalance { return providers.SubscriberBalance(b) }),
			Dropped:            stored.Dropped, AskAfter: stored.AskAfter, Kept: stored.Kept,
		},
		FetchedAt: stored.FetchedAt, TriedAt: stored.TriedAt, DueAt: stored.DueAt,
		Failure: (*snapshot.Failure)(stored.LastFailure), Ended: stored.Ended,
	}, nil
}

func convert[From, To any](list []From, f func(From) To) []To {
	if len(list) == 0 {
		return nil
	}
	converted := make([]To, len(list))
	for i, v := range list {
		converted[i] = f(v)
	}
	return converted
}

// seal returns the record of content. The checksum covers its names too, so that
// a record in the place of another one is noticed.
func seal(id, key string, content any) ([]byte, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	record := bytes.NewBuffer(make([]byte, headSize, headSize+min(len(text), deflateFrom)))
	encoding := byte(plain)
	if len(text) < deflateFrom {
		record.Write(text)
	} else {
		encoding = deflated
		w, err := flate.NewWriter(record, compression)
		if err != nil {
			return nil, err
		}
		_, _ = w.Write(text) // a bytes.Buffer does not fail
		_ = w.Close()
	}
	sealed := record.Bytes()
	sealed[0], sealed[1] = formatVersion, encoding
	binary.BigEndian.PutUint32(sealed[2:], checksum(id, key, sealed))
	return sealed, nil
}

// unseal reads the content of a record into dst.
func unseal(id, key string, record []byte, dst any) error {
	if len(record) < headSize {
		return errors.New("record is too short")
	}
	if record[0] != formatVersion {
		return fmt.Errorf("record has format %d, expected %d", record[0], formatVersion)
	}
	if binary.BigEndian.Uint32(record[2:]) != checksum(id, key, record) {
		return errors.New("record has a wrong checksum")
	}
	text := record[headSize:]
	if record[1] == deflated {
		r := io.LimitReader(flate.NewReader(bytes.NewReader(text)), maxContent+1)
		inflated, err := io.ReadAll(r)
		if err == nil && len(inflated) > maxContent {
			err = fmt.Errorf("record of more than %d bytes", maxContent)
		}
		if err != nil {
			return err
		}
		text = inflated
	}
	return json.Unmarshal(text, dst)
}

// checksum returns the CRC-32C of the record, except the checksum itself, and of
// its names.
func checksum(id, key string, record []byte) uint32 {
	names := binary.AppendUvarint(nil, uint64(len(id)))
	sum := crc32.Update(0, castagnoli, append(append(names, id...), key...))
	sum = crc32.Update(sum, castagnoli, record[:2])
	return crc32.Update(sum, castagnoli, record[headSize:])
}
