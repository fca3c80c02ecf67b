package cache

import (
	"bytes"
	"math/big"
	"strconv"
)

// sum adds numbers exactly, as the decimals that providers send: what is added and
// taken away again leaves nothing, in whatever order. The zero value is 0.
type sum struct {
	digits map[int]*big.Int // by power of ten; none of them 0
	terms  [3]big.Int       // room for a number that is added
}

// add adds v n times.
func (s *sum) add(v float64, n int64) {
	var space [32]byte
	text := strconv.AppendFloat(space[:0], v, 'e', -1, 64) // the shortest that reads back as v: -1.25e+03
	at := bytes.IndexByte(text, 'e')
	power, _ := strconv.Atoi(string(text[at+1:]))
	mantissa := text[:at]
	if point := bytes.IndexByte(mantissa, '.'); point >= 0 {
		power -= len(mantissa) - point - 1
		mantissa = append(mantissa[:point], mantissa[point+1:]...)
	}
	number, _ := strconv.ParseInt(string(mantissa), 10, 64) // at most 17 digits
	if s.digits == nil {
		s.digits = make(map[int]*big.Int)
	}
	d := s.digits[power]
	if d == nil {
		d = new(big.Int)
		s.digits[power] = d
	}
	terms := &s.terms
	d.Add(d, terms[2].Mul(terms[0].SetInt64(number), terms[1].SetInt64(n)))
	if d.Sign() == 0 {
		delete(s.digits, power)
	}
}

// value returns the number that is nearest to the sum.
func (s *sum) value() float64 {
	lowest := 0
	for power := range s.digits {
		lowest = min(lowest, power)
	}
	total := new(big.Int)
	for power, d := range s.digits {
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(power-lowest)), nil)
		total.Add(total, scale.Mul(scale, d))
	}
	v, _ := strconv.ParseFloat(total.String()+"e"+strconv.Itoa(lowest), 64)
	return v
}
