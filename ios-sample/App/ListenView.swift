import HearpackKit
import SwiftUI

/// Listen: what is heard now, what was heard when, and the input meter.
struct ListenSections: View {
    @ObservedObject var model: AppModel

    var body: some View {
        InputMeterSection(level: model.figures.level)
        Section("Now") {
            ForEach(model.figures.top.map { TopRow(label: $0.label, score: $0.score) }, id: \.label) { row in
                VStack(alignment: .leading) {
                    HStack {
                        Text(row.label)
                        Spacer()
                        Text(Format.percent(row.score)).font(.body.monospacedDigit())
                    }
                    ProgressView(value: min(1, max(0, Double(row.score))), total: 1).accessibilityHidden(true)
                }
                .accessibilityElement(children: .combine)
                .accessibilityAddTraits(.updatesFrequently)
            }
        }
        Section("Heard") {
            if model.events.isEmpty { Text("Nothing yet").foregroundStyle(.secondary) }
            ForEach(model.events.map(EventRow.init), id: \.id) { row in
                HStack {
                    Text(printable(row.event.label))
                    Spacer()
                    Text(row.span(model.manifest)).font(.body.monospacedDigit()).foregroundStyle(.secondary)
                }
                .accessibilityElement(children: .combine)
            }
        }
    }
}

struct TopRow {
    let label: String
    let score: Float
}

struct EventRow {
    let event: SoundEvent
    var id: String { "\(event.index) \(event.onsetSample)" }

    /// Seconds from the stream's start.
    func span(_ manifest: Manifest?) -> String {
        guard let manifest else { return "" }
        let rateHz = manifest.geometry.sampleRateHz
        let span = eventSpan(event, hopSamples: manifest.hopSamples, firstEnd: manifest.buffer.samples)
        let begin = Format.seconds(span.begin, rateHz)
        guard let end = span.end else { return "\(begin) …" }
        return "\(begin) to \(Format.seconds(end, rateHz))"
    }
}

/// How loud it is, behind the stages before the net.
struct InputMeterSection: View {
    let level: Level

    var body: some View {
        Section("Input") {
            ProgressView(value: share, total: 1)
                .accessibilityLabel("Input level")
                .accessibilityValue(Format.decibels(level.rmsDbfs))
                .accessibilityAddTraits(.updatesFrequently)
            Text("\(Format.decibels(level.rmsDbfs)) RMS, peak \(Format.decibels(peakDbfs))").font(.footnote.monospacedDigit())
        }
    }

    /// -60 to 0 dBFS over the whole bar.
    private var share: Double { level.rmsDbfs.isFinite ? min(1, max(0, 1 + level.rmsDbfs / 60)) : 0 }
    private var peakDbfs: Double { level.peak > 0 ? 20 * log10(Double(level.peak)) : -.infinity }
}

/// Figures as text.
enum Format {
    static func percent(_ share: Float) -> String { String(format: "%.0f %%", share * 100) }
    static func decibels(_ db: Double) -> String { db.isFinite ? String(format: "%.0f dBFS", db) : "silence" }
    static func ms(_ ms: Double) -> String { String(format: "%.1f ms", ms) }
    static func seconds(_ samples: Int, _ rateHz: Int) -> String { String(format: "%.2f s", Double(samples) / Double(rateHz)) }
}
