package exposition

import (
	"bytes"
	"compress/gzip"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSums(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		all, joined := []byte{}, emptySum
		for range r.IntN(6) {
			p := make([]byte, r.IntN(1<<r.IntN(18)))
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			all = append(all, p...)
			joined = joined.followedBy(sumOf(p))
		}
		require.Equal(t, crc32.ChecksumIEEE(all), joined.crc)
		require.Equal(t, sumOf(all), joined)
	}
}

// TestStitching joins blocks of every kind and has the standard library read them.
func TestStitching(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		member, all, joined := bytes.Clone(gzipHeader), []byte{}, emptySum
		for range r.IntN(6) {
			p := bytes.Repeat([]byte("sms_price{} 1\n"), r.IntN(100))
			switch r.IntN(3) {
			case 0:
				member = append(member, stored(p)...)
			case 1:
				member = append(member, quick.deflate(p)...)
			case 2:
				b := thorough.deflate(p)
				require.Equal(t, p, inflate(b, len(p)))
				member = append(member, b...)
			}
			all = append(all, p...)
			joined = joined.followedBy(sumOf(p))
		}
		member = append(append(member, lastBlock...), gzipTrailer(joined.crc, len(all))...)
		in := bytes.NewReader(member)
		z, err := gzip.NewReader(in)
		require.NoError(t, err)
		z.Multistream(false)
		got, err := io.ReadAll(z)
		require.NoError(t, err)
		require.Equal(t, all, got)
		require.Zero(t, in.Len())
	}
}
