// Package eightxeightsim simulates the account endpoints of the 8x8 SMS API:
// the [account balance] and the [SMS price list].
//
// It is made from 8x8's documentation, not from this project's client, and
// shares no code with it, so that a misreading on one side shows. Where the
// documentation contradicts itself or is silent, the answer can be chosen
// with [Shape] and [simulate.Hint].
//
// [account balance]: https://developer.8x8.com/connect/reference/get-account-balance
// [SMS price list]: https://developer.8x8.com/connect/reference/get-price-list
package eightxeightsim
