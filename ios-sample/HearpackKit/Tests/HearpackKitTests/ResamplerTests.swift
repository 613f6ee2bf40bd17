import XCTest

@testable import HearpackKit

final class ResamplerTests: XCTestCase {
    private struct Golden: Decodable {
        struct Case: Decodable {
            let in_rate_hz: Int
            let out_rate_hz: Int
            let up: Int
            let down: Int
            let delay_out_samples: Int
            let taps_per_output: Int
            let outputs: [Float]
        }
        let input: [Int]
        let cases: [Case]
    }

    private func golden() throws -> Golden {
        try JSONDecoder().decode(Golden.self, from: try fixture("resampler/golden.json"))
    }

    func testGoldenToTheBitInAnyPartition() throws {
        let golden = try golden()
        XCTAssertEqual(golden.cases.count, 7)
        let input = golden.input.map { Float($0) / 33_554_432 }
        for example in golden.cases {
            for blocks in [BlockSizes.fixed(400), .fixed(1), .fixed(37), .ragged(seed: 3)] {
                let resampler = try Resampler(inRateHz: example.in_rate_hz, outRateHz: example.out_rate_hz)
                XCTAssertEqual(resampler.up, example.up)
                XCTAssertEqual(resampler.down, example.down)
                XCTAssertEqual(resampler.delayOutSamples, example.delay_out_samples)
                XCTAssertEqual(resampler.tapsPerOutput, example.taps_per_output)
                var out: [Float] = []
                try blocks.each(input.count) { out += try resampler.process(Array(input[$0..<$0 + $1])) }
                out += try resampler.flush()
                XCTAssertEqual(bits(out), bits(example.outputs), "\(example.in_rate_hz) -> \(example.out_rate_hz)")
            }
        }
    }

    func testResetBeginsAnew() throws {
        let resampler = try Resampler(inRateHz: 48_000, outRateHz: 16_000)
        let input = (0..<1_000).map { Float(($0 * 37) % 101) / 101 }
        let first = try resampler.process(input) + resampler.flush()
        resampler.reset()
        XCTAssertEqual(bits(try resampler.process(input) + resampler.flush()), bits(first))
    }

    func testLongBlocksAndSaturation() throws {
        let loud = [Float](repeating: 9, count: 10_000)
        let resampler = try Resampler(inRateHz: 24_000, outRateHz: 16_000)
        let out = try resampler.process(loud)
        XCTAssertEqual(out.count, (10_000 * 2 + 2) / 3)
        XCTAssertEqual(out[5_000], 4, accuracy: 1e-6)
    }

    func testEqualRatesHandTheInputThrough() throws {
        let resampler = try Resampler(inRateHz: 16_000, outRateHz: 16_000)
        XCTAssertEqual(try resampler.process([1, -0.0, 3]), [1, -0.0, 3])
        XCTAssertEqual(try resampler.flush(), [])
        XCTAssertEqual(resampler.delayMs, 0)
    }

    func testBadInput() throws {
        assertThrows("in_rate_hz must be 4000 to 192000 Hz, got 3999") { _ = try Resampler(inRateHz: 3_999, outRateHz: 16_000) }
        let resampler = try Resampler(inRateHz: 48_000, outRateHz: 16_000)
        _ = try resampler.process([0, 0, 0])
        assertThrows("sample 4 (0.000 s from the stream's start) is nan") { _ = try resampler.process([0, .nan, .infinity]) }
        XCTAssertEqual(resampler.inSamples, 3, "nothing of a bad block is consumed")
        _ = try resampler.flush()
        assertThrows("call reset()") { _ = try resampler.process([0]) }
    }
}
