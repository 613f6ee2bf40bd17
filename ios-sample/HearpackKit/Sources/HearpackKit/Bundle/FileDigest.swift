import Foundation

#if canImport(CryptoKit)
import CryptoKit
#endif

/// SHA-256 of what a bundle holds: the system's, which is fast in every build, or ours where there is none.
enum FileDigest {
    /// The digest of some bytes, 64 lower-case hexadecimal digits.
    static func hex(_ data: Data) -> String {
        #if canImport(CryptoKit)
        return SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
        #else
        return PortableSHA256.hex(data)
        #endif
    }
}

/// SHA-256 (FIPS 180-4) in plain Swift.
struct PortableSHA256 {
    private static let constants: [UInt32] = roundConstants()

    private var state: [UInt32] = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    private var schedule = [UInt32](repeating: 0, count: 64)

    /// The digest of some bytes, 64 lower-case hexadecimal digits.
    static func hex(_ data: Data) -> String {
        var hash = PortableSHA256()
        let whole = data.count / 64 * 64
        data.withUnsafeBytes { raw in
            var at = 0
            while at < whole {
                hash.take(UnsafeRawBufferPointer(rebasing: raw[at..<at + 64]))
                at += 64
            }
        }
        var tail = [UInt8](data.suffix(data.count - whole))
        tail.append(0x80)
        while tail.count % 64 != 56 { tail.append(0) }
        let bits = UInt64(data.count) * 8
        for shift in stride(from: 56, through: 0, by: -8) { tail.append(UInt8(truncatingIfNeeded: bits >> UInt64(shift))) }
        tail.withUnsafeBytes { raw in
            for at in stride(from: 0, to: tail.count, by: 64) {
                hash.take(UnsafeRawBufferPointer(rebasing: raw[at..<at + 64]))
            }
        }
        let digits = Array("0123456789abcdef")
        return String(
            hash.state.flatMap { word in
                stride(from: 28, through: 0, by: -4).map { digits[Int((word >> UInt32($0)) & 15)] }
            })
    }

    private mutating func take(_ block: UnsafeRawBufferPointer) {
        schedule.withUnsafeMutableBufferPointer { w in
            Self.constants.withUnsafeBufferPointer { k in
                state.withUnsafeMutableBufferPointer { h in Self.compress(block, w, k, h) }
            }
        }
    }

    private static func compress(
        _ block: UnsafeRawBufferPointer, _ w: UnsafeMutableBufferPointer<UInt32>, _ k: UnsafeBufferPointer<UInt32>,
        _ h: UnsafeMutableBufferPointer<UInt32>
    ) {
        @inline(__always) func turned(_ x: UInt32, _ by: UInt32) -> UInt32 { (x >> by) | (x << (32 - by)) }
        for i in 0..<16 { w[i] = UInt32(bigEndian: block.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)) }
        for i in 16..<64 {
            let s0 = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ (w[i - 15] >> 3)
            let s1 = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ (w[i - 2] >> 10)
            w[i] = w[i - 16] &+ s0 &+ w[i - 7] &+ s1
        }
        var (a, b, c, d, e, f, g, last) = (h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7])
        for i in 0..<64 {
            let s1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)
            let t1 = last &+ s1 &+ ((e & f) ^ (~e & g)) &+ k[i] &+ w[i]
            let s0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)
            let t2 = s0 &+ ((a & b) ^ (a & c) ^ (b & c))
            (last, g, f, e, d, c, b, a) = (g, f, e, d &+ t1, c, b, a, t1 &+ t2)
        }
        for (i, value) in [a, b, c, d, e, f, g, last].enumerated() { h[i] = h[i] &+ value }
    }

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes, in whole numbers.
    private static func roundConstants() -> [UInt32] {
        var primes: [UInt64] = []
        var candidate: UInt64 = 2
        while primes.count < 64 {
            if primes.allSatisfy({ candidate % $0 != 0 }) { primes.append(candidate) }
            candidate += 1
        }
        return primes.map { prime in
            // The largest r with r^3 <= prime * 2^96: the cube root of prime in units of 2^-32.
            var low: UInt64 = 0
            var high: UInt64 = 1 << 35
            while high - low > 1 {
                let middle = (low + high) / 2
                if cube(middle, isAtMost: prime) { low = middle } else { high = middle }
            }
            return UInt32(truncatingIfNeeded: low)
        }
    }

    private static func cube(_ r: UInt64, isAtMost prime: UInt64) -> Bool {
        let square = r.multipliedFullWidth(by: r)  // up to 70 bits
        let low = square.low.multipliedFullWidth(by: r)
        let high = square.high * r + low.high  // r^3 >> 64
        return high < prime << 32 || (high == prime << 32 && low.low == 0)
    }
}
