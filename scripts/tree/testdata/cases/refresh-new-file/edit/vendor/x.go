// dropped

package x
