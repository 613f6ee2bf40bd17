import Foundation
import XCTest

@testable import HearpackKit

final class PlayoutTests: XCTestCase {
    private struct Golden: Decodable {
        enum Operation: Decodable {
            case write(Int, Int64), read(Int, Int64), end

            init(from decoder: any Decoder) throws {
                var list = try decoder.unkeyedContainer()
                switch try list.decode(String.self) {
                case "w": self = .write(try list.decode(Int.self), try list.decode(Int64.self))
                case "r": self = .read(try list.decode(Int.self), try list.decode(Int64.self))
                default: self = .end
                }
            }
        }
        struct Case: Decodable {
            let name: String
            let capacity: Int
            let prefill: Int
            let deadband: Int
            let tolerance: Int
            let rate_hz: Int
            let drift_correction: Bool
            let operations: [Operation]
            let counts: [String: Int]
            let outputs: Int
            let fnv1a: String
            let every: Int
            let some: [Float]
            let adjust_every_50_reads: [Int64]
        }
        let cases: [Case]
    }

    func testGoldenToTheBit() throws {
        let golden = try JSONDecoder().decode(Golden.self, from: try fixture("playout/golden.json"))
        XCTAssertEqual(golden.cases.count, 11)
        for example in golden.cases {
            let ring = try PlayoutRing(
                capacitySamples: example.capacity, prefillSamples: example.prefill, deadbandSamples: example.deadband,
                toleranceSamples: example.tolerance, rateHz: example.rate_hz, driftCorrection: example.drift_correction)
            var state: UInt64 = 3
            var out: [Float] = []
            var adjusts: [Int64] = []
            for operation in example.operations {
                switch operation {
                case .end: ring.finish()
                case .write(let count, let now):
                    let block: [Float] = (0..<count).map { _ in
                        state = (state * 1_103_515_245 + 12_345) % (1 << 31)
                        return Float((Double(state >> 7) - 8_388_608) / 8_388_608)
                    }
                    try block.withUnsafeBufferPointer { _ = try ring.write($0, now) }
                case .read(let count, let now):
                    var block = [Float](repeating: .nan, count: count)
                    block.withUnsafeMutableBufferPointer { ring.read($0, now) }
                    out += block
                    adjusts.append(Int64((ring.adjustPpm * 4_294.967296).rounded()))
                }
            }
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            for value in out {
                for shift in [0, 8, 16, 24] as [UInt32] {
                    hash = (hash ^ UInt64((value.bitPattern >> shift) & 255)) &* 0x100_0000_01b3
                }
            }
            XCTAssertEqual(out.count, example.outputs, example.name)
            XCTAssertEqual(stride(from: 0, to: out.count, by: example.every).map { out[$0] }, example.some, example.name)
            XCTAssertEqual(String(format: "%016lx", hash), example.fnv1a, example.name)
            XCTAssertEqual(stride(from: 0, to: adjusts.count, by: 50).map { adjusts[$0] }, example.adjust_every_50_reads)
            let counts = ring.counts
            let ours = [
                "offered": counts.offered, "written": counts.written, "dropped": counts.dropped, "consumed": counts.consumed,
                "held": counts.held, "trimmed": counts.trimmed, "played": counts.played, "silence": counts.silence,
                "underrun": counts.underrun, "tail": counts.tail, "underruns": counts.underruns,
            ]
            XCTAssertEqual(ours, example.counts, example.name)
        }
    }

    func testWriterAndReaderOnTwoThreads() throws {
        let ring = try PlayoutRing(
            capacitySamples: 1_000, prefillSamples: 100, deadbandSamples: 1_000, toleranceSamples: 1_000, rateHz: 48_000,
            driftCorrection: false)
        let wanted = 100_000
        let writer = Thread {
            var next = 0
            while next < wanted {
                let count = min(64, wanted - next, ring.capacitySamples - ring.level)
                if count == 0 {
                    sched_yield()
                    continue
                }
                let block = (0..<count).map { Float(next + $0 + 1) }
                block.withUnsafeBufferPointer { _ = try? ring.write($0, 0) }
                next += count
            }
            ring.finish()
        }
        writer.start()
        var heard = 0
        var wrong = 0
        var block = [Float](repeating: 0, count: 48)
        while ring.counts.tail == 0 {
            block.withUnsafeMutableBufferPointer { ring.read($0, 0) }
            for sample in block where sample != 0 {
                heard += 1
                if sample != Float(heard) { wrong += 1 }
            }
        }
        XCTAssertEqual(heard, wanted)
        XCTAssertEqual(wrong, 0)
        let counts = ring.counts
        XCTAssertEqual(counts.offered, counts.written + counts.dropped)
        XCTAssertEqual(counts.written, counts.consumed + counts.held)
    }

    func testBadInputAndReset() throws {
        assertThrows("prefill must be 0 to the capacity") {
            _ = try PlayoutRing(
                capacitySamples: 8, prefillSamples: 9, deadbandSamples: 0, toleranceSamples: 0, rateHz: 8_000)
        }
        let ring = try PlayoutRing(
            capacitySamples: 8, prefillSamples: 1, deadbandSamples: 0, toleranceSamples: 0, rateHz: 8_000)
        assertThrows("NaN or Inf") { try [Float.nan].withUnsafeBufferPointer { _ = try ring.write($0, 0) } }
        ring.finish()
        assertThrows("call reset()") { try [Float(1)].withUnsafeBufferPointer { _ = try ring.write($0, 0) } }
        ring.reset()
        XCTAssertEqual(try [Float(1)].withUnsafeBufferPointer { try ring.write($0, 0) }, 0)
        XCTAssertEqual(ring.level, 1)
    }

    func testPrefill() throws {
        XCTAssertEqual(PlayoutRing.prefill(try manifest(), deviceRateHz: 48_000, deviceBlock: 256), 12 + 256)
        let stated = try manifest { $0["playout"] = ["prefill_samples": 100] }
        XCTAssertEqual(PlayoutRing.prefill(stated, deviceRateHz: 44_100, deviceBlock: 256), 276)
    }
}
