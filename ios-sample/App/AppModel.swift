import Foundation
import HearpackAudio
import HearpackKit
import SwiftUI
import UIKit

/// `Hearpack` for the screens: what they show, and what they may ask for.
@MainActor
final class AppModel: ObservableObject {
    @Published private(set) var state = HearpackState()
    /// Newest first; an event that lasts has no offset yet.
    @Published private(set) var events: [SoundEvent] = []
    @Published private(set) var bundles: [URL] = []
    @Published private(set) var result: StreamResult?
    /// By itself, so that what changes five times a second redraws only what shows it.
    let live = LiveFigures()
    let hearpack: Hearpack

    private var listening: Task<Void, Never>?

    /// - Parameter clock: started at process start, so that cold-start figures begin there.
    init(clock: MonotonicClock) {
        hearpack = Hearpack(clock: clock)
        hearpack.onState = { [weak self] in self?.update() }
        hearpack.onFigures = { [weak self] in self?.live.update() }
        live.hearpack = hearpack
    }

    func open() {
        let folder = Bundle.main.bundleURL.appendingPathComponent("Bundles")
        bundles = ModelBundle.all(in: folder)
        if let first = bundles.first { hearpack.open(first) } else { hearpack.send(.noBundle) }
    }

    func select(_ folder: URL) {
        (events, result) = ([], nil)
        hearpack.open(folder)
    }

    func start() {
        events = []
        let heard = hearpack.start()
        listening = Task { [weak self] in
            do {
                for try await event in heard { self?.show(event) }
            } catch {
                // The state has it, in words for the screen.
                self?.update()
            }
        }
    }

    private func update() {
        let old = state
        state = hearpack.state
        result = hearpack.result
        UIApplication.shared.isIdleTimerDisabled = state.staysAwake
        if let text = announcement(from: old, to: state) { announce(text.said) }
        live.update()
    }

    private func show(_ event: SoundEvent) {
        events.removeAll { $0.index == event.index && $0.onsetSample == event.onsetSample }
        events.insert(event, at: 0)
        if events.count > 100 { events.removeLast() }
        if event.offsetSample == nil { announce(printable(event.label)) }
    }

    private func announce(_ text: String) { UIAccessibility.post(notification: .announcement, argument: text) }
}

/// What changes several times a second.
@MainActor
final class LiveFigures: ObservableObject {
    @Published private(set) var figures = StreamFigures()
    @Published private(set) var ledger: LatencyLedger?
    @Published private(set) var coldStart = DeviceTrace.ColdStart()
    weak var hearpack: Hearpack?

    func update() {
        guard let hearpack else { return }
        (figures, ledger, coldStart) = (hearpack.figures, hearpack.ledger, hearpack.coldStart)
    }
}
