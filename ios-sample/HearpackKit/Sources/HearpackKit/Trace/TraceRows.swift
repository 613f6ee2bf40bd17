/// A row of a trace that can stand for several.
protocol TraceRow {
    /// Rows it stands for.
    var rows: Int { get }
    /// Both as one row; nil where they may not be summed.
    func joined(with next: Self) -> Self?
}

/// Rows in bounded memory: the first and the last as they are, those between them summed, so that a trace of hours has
/// them all. Nothing is allocated after init.
struct TraceRows<Row: TraceRow> {
    static var mostSummed: Int { 4_096 }

    private let most: Int
    private var head: [Row] = []
    private var middle: [Row] = []
    private var tail: [Row] = []
    private var oldest = 0  // of the tail
    private var span = 2
    /// Rows that came.
    private(set) var count = 0
    /// The first row that found no room; there is none unless rows cannot be summed.
    private(set) var refused: Row?

    /// - Parameter most: rows kept as they are, at the beginning and again at the end.
    init(_ most: Int) {
        self.most = most
        head.reserveCapacity(most)
        tail.reserveCapacity(most)
        middle.reserveCapacity(Self.mostSummed)
    }

    var isEmpty: Bool { count == 0 }

    /// Every row, in order.
    var all: [Row] { head + middle + Array(tail[oldest...] + tail[..<oldest]) }

    mutating func add(_ row: Row) {
        count += 1
        if head.count < most {
            head.append(row)
        } else if tail.count < most {
            tail.append(row)
        } else {
            sum(tail[oldest])
            tail[oldest] = row
            oldest = oldest + 1 == most ? 0 : oldest + 1
        }
    }

    private mutating func sum(_ row: Row) {
        if let last = middle.last, last.rows < span, let both = last.joined(with: row) {
            middle[middle.count - 1] = both
            return
        }
        if middle.count == Self.mostSummed { pair() }
        if middle.count < Self.mostSummed {
            middle.append(row)
        } else {
            count -= 1
            refused = refused ?? row
        }
    }

    private mutating func pair() {
        span *= 2
        var kept = 0
        var at = 0
        while at < middle.count {
            var row = middle[at]
            at += 1
            if at < middle.count, let both = row.joined(with: middle[at]) {
                row = both
                at += 1
            }
            middle[kept] = row
            kept += 1
        }
        middle.removeLast(middle.count - kept)
    }
}

extension CallbackRecord: TraceRow {
    var rows: Int { Int(count) }

    func joined(with next: CallbackRecord) -> CallbackRecord? {
        guard rateHz == next.rateHz else { return nil }
        var both = self
        both.count += next.count
        both.frames += next.frames
        (both.lastTimeNs, both.endPosition) = (next.count > 1 ? next.lastTimeNs : next.timeNs, next.endPosition)
        (both.hardwareTimeNs, both.hardwareFrame) = (-1, -1)
        return both
    }
}

extension DeviceTrace.Inference: TraceRow {
    var rows: Int { count ?? 1 }

    func joined(with next: DeviceTrace.Inference) -> DeviceTrace.Inference? {
        guard error == nil, next.error == nil, warmUp == next.warmUp else { return nil }
        var both = self
        both.count = rows + next.rows
        both.busyNs = (busyNs ?? endNs - beginNs) + (next.busyNs ?? next.endNs - next.beginNs)
        both.longestNs = max(longestNs ?? endNs - beginNs, next.longestNs ?? next.endNs - next.beginNs)
        both.lastEndNs = next.lastEndNs ?? next.endNs
        (both.endSample, both.waitingSamples) = (next.endSample, nil)
        return both
    }
}
