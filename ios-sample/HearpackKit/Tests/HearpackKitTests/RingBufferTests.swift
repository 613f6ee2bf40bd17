import XCTest

@testable import HearpackKit

final class RingBufferTests: XCTestCase {
    func testFullRingRefuses() {
        let ring = RingBuffer(atLeast: 8)
        var block = [Float](repeating: 1, count: 10)
        XCTAssertEqual(ring.write(&block, 10), 8)
        XCTAssertEqual(ring.lostSamples, 2)
    }
}
