import HearpackKit
import SwiftUI

/// Listen: what is heard now, what was heard when, and the input meter.
struct ListenSections: View {
    @ObservedObject var model: AppModel
    @ObservedObject var live: LiveFigures

    var body: some View {
        InputMeterSection(level: live.figures.level)
        Section(say("Now")) {
            ForEach(live.figures.top.map { TopRow(label: $0.label, score: $0.score) }, id: \.label) { row in
                VStack(alignment: .leading) {
                    FigureRow(name: row.label, value: Figure.percent(row.score))
                    ProgressView(value: min(1, max(0, Double(row.score))), total: 1).accessibilityHidden(true)
                }
                .accessibilityElement(children: .combine)
                .accessibilityAddTraits(.updatesFrequently)
            }
        }
        Section(say("Heard")) {
            if model.events.isEmpty { Text(say("Nothing yet")).foregroundStyle(.secondary) }
            ForEach(model.events.map(EventRow.init), id: \.id) { row in
                FigureRow(name: printable(row.event.label), value: span(row.event))
            }
        }
    }

    /// Seconds from the stream's start.
    private func span(_ event: SoundEvent) -> String {
        let (begin, end) = model.hearpack.seconds(event)
        guard let end else { return "\(Figure.seconds(begin)) …" }
        return say("%@ to %@", Figure.seconds(begin), Figure.seconds(end))
    }
}

struct TopRow {
    let label: String
    let score: Float
}

struct EventRow {
    let event: SoundEvent
    var id: String { "\(event.index) \(event.onsetSample)" }
}

/// How loud it is, behind the stages before the net.
struct InputMeterSection: View {
    let level: InputLevel

    var body: some View {
        Section(say("Input")) {
            ProgressView(value: share, total: 1)
                .accessibilityLabel(say("Input level"))
                .accessibilityValue(Figure.decibels(level.rmsDbfs))
                .accessibilityAddTraits(.updatesFrequently)
            Text(say("%@ RMS, peak %@", Figure.decibels(level.rmsDbfs), Figure.decibels(peakDbfs)))
                .font(.footnote.monospacedDigit())
        }
    }

    /// -60 to 0 dBFS over the whole bar.
    private var share: Double { level.rmsDbfs.isFinite ? min(1, max(0, 1 + level.rmsDbfs / 60)) : 0 }
    private var peakDbfs: Double { level.peak > 0 ? 20 * log10(Double(level.peak)) : -.infinity }
}
