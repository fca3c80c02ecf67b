package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"

	"github.com/balance-exporter/balance_exporter/internal/snapshot"
)

// castagnoli is the polynomial that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumSize is the length of the checksum before the JSON of a record.
const checksumSize = 4

// encodeSource returns the record of one source: a checksum, then JSON, which
// keeps every float64 exactly. bbolt has no checksums of its own, and a single
// flipped bit must not become a price that nobody asked for.
func encodeSource(id, key string, s *snapshot.Snapshot) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	record := make([]byte, checksumSize, checksumSize+len(text))
	binary.BigEndian.PutUint32(record, sourceChecksum(id, key, text))
	return append(record, text...), nil
}

// decodeSource returns what a record made by encodeSource for the same id and
// key holds.
func decodeSource(id, key string, record []byte) (*snapshot.Snapshot, error) {
	if len(record) < checksumSize {
		return nil, errors.New("record is too short")
	}
	text := record[checksumSize:]
	if binary.BigEndian.Uint32(record) != sourceChecksum(id, key, text) {
		return nil, errors.New("record has a wrong checksum")
	}
	s := new(snapshot.Snapshot)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	return s, nil
}

// sourceChecksum covers the names too, so that a record that turns up in
// another's place is noticed.
func sourceChecksum(id, key string, text []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(id))
	sum = crc32.Update(sum, castagnoli, []byte{0})
	sum = crc32.Update(sum, castagnoli, []byte(key))
	sum = crc32.Update(sum, castagnoli, []byte{0})
	return crc32.Update(sum, castagnoli, text)
}
