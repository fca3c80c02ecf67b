package eightxeightsim

import (
	"encoding/json"
	"math"
	"strconv"
	"sync"
	"time"
)

// Balance is what an account has, at a time, as a JSON number that is sent to
// the letter; empty leaves it out of the answer.
type Balance interface {
	At(now time.Time) json.Number
}

// SettableBalance is a balance that changes only when set. The zero value is
// empty. It is safe for concurrent use.
type SettableBalance struct {
	mu     sync.Mutex
	amount json.Number
}

// NewBalance returns a balance set to amount.
func NewBalance(amount json.Number) *SettableBalance {
	return &SettableBalance{amount: amount}
}

// Set sets the balance.
func (b *SettableBalance) Set(amount json.Number) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.amount = amount
}

// At implements [Balance].
func (b *SettableBalance) At(time.Time) json.Number {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.amount
}

// Traffic is the balance of an account that sends messages, by day more than
// by night, and is topped up when it runs low. It depends on nothing but the
// time.
type Traffic struct {
	Start   time.Time
	Opening float64 // balance at Start
	// Spend is the average spending, in units of the currency per second.
	Spend float64
	// Day is the period of the rhythm; 0 means 24 h. A demo wants a short
	// one, for nobody watches it for a day.
	Day time.Duration
	// Message is the price of one message, the step in which the balance
	// falls; 0 means 0.0421477.
	Message float64
	// TopUp is added whenever the balance falls below Low; 0 or less means
	// that nobody pays.
	Low, TopUp float64
}

// At implements [Balance].
func (t Traffic) At(now time.Time) json.Number {
	day := t.Day
	if day == 0 {
		day = 24 * time.Hour
	}
	message := t.Message
	if message == 0 {
		message = 0.0421477
	}
	// The rate is Spend × (1 - swing × cos), lowest at Start; this is its
	// integral, which never falls as long as swing is below 1.
	const swing = 0.7
	elapsed := max(now.Sub(t.Start), 0).Seconds()
	turn := 2 * math.Pi / day.Seconds()
	spent := t.Spend * (elapsed - swing*math.Sin(turn*elapsed)/turn)
	left := t.Opening - math.Floor(spent/message)*message
	if t.TopUp > 0 && left < t.Low {
		left += math.Ceil((t.Low-left)/t.TopUp) * t.TopUp
	}
	return decimal(left)
}

// decimal writes an amount with the seven decimals of the documentation.
func decimal(amount float64) json.Number {
	return json.Number(strconv.FormatFloat(amount, 'f', 7, 64))
}
