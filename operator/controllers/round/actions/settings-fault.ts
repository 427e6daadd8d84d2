/** The settings of Federation and round together allow no plan, and no later try will find otherwise: the round ends with InvalidSettings. */
export class SettingsFault extends Error {
  override readonly name = "SettingsFault";
}
