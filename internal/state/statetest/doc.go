// Package statetest is the conformance suite of [state.Store].
package statetest
