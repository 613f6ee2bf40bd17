@preconcurrency import AVFoundation
import HearpackAudio
import HearpackKit
import SwiftUI

/// Before and after, in step: both play, one is heard.
@MainActor
final class ComparisonPlayer: ObservableObject {
    @Published private(set) var isPlaying = false
    @Published private(set) var hearsEnhanced = true
    @Published private(set) var message = ""
    let seconds: Double

    private let hearpack: Hearpack
    private let original: [Float]
    private let enhanced: [Float]
    private let sampleRateHz: Int
    private var players: [AVAudioPlayer] = []

    init(_ hearpack: Hearpack, _ original: [Float], _ enhanced: [Float], sampleRateHz: Int) {
        (self.hearpack, self.original, self.enhanced, self.sampleRateHz) = (hearpack, original, enhanced, sampleRateHz)
        seconds = Double(original.count) / Double(max(1, sampleRateHz))
    }

    /// From the beginning, or no more.
    func toggle() async {
        if isPlaying {
            players.forEach { $0.stop() }
            isPlaying = false
            return
        }
        do {
            try await hearpack.activatePlayback()
            players = try [original, enhanced].map { try AVAudioPlayer(data: waveFile($0, sampleRateHz: sampleRateHz)) }
            mix()
            let begin = (players.first?.deviceCurrentTime ?? 0) + 0.1
            for player in players { _ = player.play(atTime: begin) }
            (isPlaying, message) = (true, "")
            try await Task.sleep(nanoseconds: UInt64((seconds + 0.2) * 1e9))
            isPlaying = players.contains(where: \.isPlaying)
        } catch {
            message = say("Sound cannot be played now. End the call or the other app, and try again.")
            isPlaying = false
        }
    }

    func hear(enhanced: Bool) {
        hearsEnhanced = enhanced
        mix()
    }

    private func mix() {
        for (index, player) in players.enumerated() { player.volume = (index == 1) == hearsEnhanced ? 1 : 0 }
    }
}

struct ComparisonSection: View {
    @StateObject private var player: ComparisonPlayer

    init(player: @autoclosure @escaping () -> ComparisonPlayer) { _player = StateObject(wrappedValue: player()) }

    var body: some View {
        Section(say("Comparison")) {
            Text(say("The last %@, before and after.", Figure.seconds(player.seconds)))
            Button(player.isPlaying ? say("Stop playing") : say("Play")) { Task { await player.toggle() } }
                .buttonStyle(.bordered).frame(minHeight: 44)
            Picker(
                say("What is heard"), selection: Binding(get: { player.hearsEnhanced }, set: { player.hear(enhanced: $0) })
            ) {
                Text(say("Original")).tag(false)
                Text(say("Enhanced")).tag(true)
            }
            if !player.message.isEmpty { Text(player.message) }
        }
    }
}
